"""A plug-in for spandrel, so that tools built on it load the ESC family and HiT-SR like any other network."""

from __future__ import annotations

from typing import Any

import torch

from esc_arch.archs import (
    ASID,
    ESC,
    ESCFP,
    ESCRIB,
    ASIDd8,
    CATANet,
    ESCReal,
    ESCRealM,
    HiT_SIR,
    HiT_SNG,
    HiT_SRF,
    MambaIR,
    MambaIRv2Light,
)
from esc_arch.common.errors import UserError
from esc_arch.common.torchvision_operators import define_torchvision_operators
from esc_arch.weights.fitting import first_reason
from esc_arch.weights.identify import identify
from esc_arch.weights.infer_real import UnsupportedFormError
from esc_arch.weights.shapes import UndecidedError

FAMILY = (ESC, ESCFP, ESCRIB, ESCReal, ESCRealM)  # spandrel has no place for the scale of each call that ESC+LTE takes
RIVALS = (HiT_SIR, HiT_SNG, HiT_SRF, MambaIR, MambaIRv2Light, ASID, ASIDd8, CATANet)
HALF = FAMILY  # HiT-SR correlates without a softmax, which half precision may not hold


def register_spandrel(registry: Any = None) -> None:
    """Let `spandrel.ModelLoader` recognise the ESC family but ESC+LTE, and all else that `load` recognises.

    The detection takes nothing but whole checkpoints of these networks, so it is asked before spandrel's own. Calling
    this again changes nothing.

    Args:
        registry: a `spandrel.ArchRegistry`; None takes the one that every `ModelLoader` uses by default.

    Raises:
        ImportError: spandrel is not installed.
    """
    spandrel = import_spandrel()
    registry = spandrel.MAIN_REGISTRY if registry is None else registry
    others = tuple(support.architecture.id for support in registry)
    supports = [
        spandrel.ArchSupport.from_architecture(_architecture(spandrel, network), before=others)
        for network in (*FAMILY, *RIVALS)
    ]
    registry.add(*supports, ignore_duplicates=True)


def import_spandrel() -> Any:
    """Import spandrel, or raise ImportError with the command that installs it."""
    define_torchvision_operators()
    try:
        import spandrel
    except ModuleNotFoundError as error:
        raise ImportError("spandrel is not installed; run pip install 'esc_arch[peers]'") from error
    return spandrel


def load_by_spandrel(file: str, tensors: dict[str, torch.Tensor], reason: UserError) -> Any:
    """Let spandrel recognise weights that are of no network of this package.

    Args:
        file: where they are from, for messages.
        tensors: names and tensors.
        reason: why this package does not know them.

    Returns:
        the `spandrel.ImageModelDescriptor` of a network from RGB images to RGB images.

    Raises:
        UserError: spandrel is not installed, does not know the network either, or it is one of another kind.
    """
    try:
        spandrel = import_spandrel()
    except ImportError as error:
        raise UserError(f"{file}: {reason} For other networks, pip install 'esc_arch[peers]'.") from error
    try:
        model = spandrel.ModelLoader().load_from_state_dict(tensors)
    except spandrel.UnsupportedModelError as error:
        raise UserError(f"{file}: {reason} Neither does spandrel know the network; choose another file.") from error
    except Exception as error:  # whatever the loaders of forty networks raise when a checkpoint does not fit
        raise UserError(f"{file}: spandrel cannot build the network ({first_reason(error)}).") from error
    rgb = isinstance(model, spandrel.ImageModelDescriptor) and (model.input_channels, model.output_channels) == (3, 3)
    if not rgb:
        raise UserError(f"{file}: the network ({model.architecture.name}) is not one from RGB images to RGB images.")
    return model


def _architecture(spandrel: Any, network: type) -> Any:
    """Make the `spandrel.Architecture` of a network."""

    class Architecture(spandrel.Architecture):  # type: ignore[misc, name-defined]
        """Recognises and loads the network by `identify`."""

        def __init__(self) -> None:
            super().__init__(id=network.__name__, detect=lambda weights: _is_of(weights, network))

        def load(self, state_dict: dict[str, Any]) -> Any:
            identity = identify(state_dict)
            arguments = identity.arguments
            channels = arguments.get("in_chans", 3)
            return spandrel.ImageModelDescriptor(
                identity.network(**arguments),
                state_dict,
                architecture=self,
                purpose="SR" if identity.scale > 1 else "Restoration",
                tags=_tags(arguments),
                supports_half=network in HALF,
                supports_bfloat16=True,
                scale=identity.scale,
                input_channels=channels,
                output_channels=channels,
                # the networks take any size; whole windows are the protocol of the published figures
                size_requirements=spandrel.SizeRequirements(multiple_of=arguments.get("window_size", 1)),
            )

    return Architecture()


def _is_of(weights: dict[str, Any], network: type) -> bool:
    """Tell whether a whole network of this type is there.

    So is one that cannot be built, for which nobody else would find a sentence: loading raises it.
    """
    try:
        return identify(weights).network is network
    except UndecidedError:
        return network is ESCRealM
    except UnsupportedFormError:
        return network is ESCReal
    except (UserError, AttributeError):  # AttributeError: spandrel hands over entries that are no tensors too
        return False


def _tags(arguments: dict[str, Any]) -> list[str]:
    """Describe the size of a network in spandrel's way."""
    if "depths" in arguments:
        return [f"{arguments['embed_dim']}dim", "x".join(map(str, arguments["depths"]))]
    return [f"{arguments['dim']}dim", f"{arguments['n_blocks']}nb", f"w{arguments['window_size']}"]
