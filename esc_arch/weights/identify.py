"""Which network weights belong to, and its arguments, from parameter names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from esc_arch.archs import ESCLTE, ESCRIB
from esc_arch.archs.esc_real_arch import published_names
from esc_arch.archs.scale import SCALE_ARGUMENTS
from esc_arch.checks.arguments import check_arguments
from esc_arch.common.errors import UserError
from esc_arch.layers.attention import set_backend
from esc_arch.layers.backend import ATTN_TYPES
from esc_arch.layers.upsample_head import MARK, Mark
from esc_arch.weights.blueprint import TooLargeError, blueprint, counted
from esc_arch.weights.infer import recognise
from esc_arch.weights.shapes import Arguments, Shapes, UndecidedError

CHANNEL_ARGUMENTS = ("in_chans", "num_in_ch", "colors")
MARK_OF_ALL = "to_img." + MARK
CONSTANTS = (MARK, "init_pos")  # last parts of names of buffers, which a network has from its arguments too


class MarkError(UserError):
    """What the mark of an upsampler says contradicts the weights beside it, or what is known."""


@dataclass(frozen=True)
class Identity:
    """A network and the arguments to build it with."""

    network: type[nn.Module]
    arguments: Arguments
    backend: str | None = None  # of the attention, where `attn_type` is not that but a kind of positions

    @property
    def scale(self) -> int:
        """How many times larger the network makes images; a network for any scale, where it is not told."""
        return int(next(self.arguments[name] for name in SCALE_ARGUMENTS if name in self.arguments))

    @property
    def channels(self) -> int:
        """How many channels its images have."""
        return int(next((self.arguments[name] for name in CHANNEL_ARGUMENTS if name in self.arguments), 3))

    @property
    def any_scale(self) -> bool:
        """Whether every call may name another scale."""
        return self.network is ESCLTE

    def build(self, weights: Mapping[str, torch.Tensor]) -> nn.Module:
        """Build the network with these weights in single precision, on the CPU, in evaluation mode."""
        network = self.network(**self.arguments)
        network.load_state_dict(weights, strict=True)
        if self.backend is not None:
            set_backend(network, self.backend)
        return network.eval()


def identify(weights: Mapping[str, torch.Tensor], **known: Any) -> Identity:
    """Recognise weights of the ESC family (ESC, -light, -XL, -FP, -RIB, -Real, -Real-M, ESC+LTE), HiT-SR, and rivals.

    Every argument that changes parameters is inferred, also of the forms that traiNNer-redux and neosr write. What
    shapes do not tell keeps its default: the back-end in `attn_type`, which changes no number, the scale of ESC+LTE,
    the window of ESC-RIB, which is 64 as published, and of HiT-SR `img_range` and `base_win_size`. The windows of
    HiT-SR are taken as published where that fits the shapes.

    Args:
        weights: names and tensors, all that the network has and no others.
        known: arguments that are to be taken as given.

    Returns:
        the network and its arguments; building it gives exactly these names and shapes.

    Raises:
        NotRecognisedError: no network has such parameter names.
        UndecidedError: an argument that changes the function is neither told by the weights nor known.
        UnsupportedFormError: they belong to a relative of these networks that this package does not have.
        UserError: the names are those of a network, but some are missing, left over, or of another shape.
    """
    weights = published_names(weights)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items() if not _is_constant(name)}
    mark = _read_mark(weights)
    try:
        return _recognised(shapes, known, mark)
    except MarkError:
        raise
    except UserError:
        _require_no_other_mark(mark, shapes, known)
        raise


def _recognised(shapes: Shapes, known: Arguments, mark: Mark | None) -> Identity:
    network, infer = recognise(shapes, mark)
    with _fitting(network):
        return _confirmed(network, infer(shapes, known, mark), known, shapes, mark)


def identify_as(
    network: type[nn.Module], recorded: Arguments, weights: Mapping[str, torch.Tensor], **known: Any
) -> Identity:
    """Check that weights are those of a network whose arguments were written down, as `save_pretrained` does.

    Args:
        network: any of this package, also one that `identify` does not recognise.
        recorded: its arguments.
        weights: names and tensors, all that the network has and no others.
        known: arguments that go before.

    Returns:
        the network and its arguments.

    Raises:
        UserError: the arguments are not the network's, or the weights do not fit.
    """
    weights = published_names(weights)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items() if not _is_constant(name)}
    try:
        with _fitting(network), counted():
            return _confirmed(network, recorded, known, shapes, _read_mark(weights))
    except TooLargeError as error:
        raise UserError(f"The weights do not fit {network.__name__} as it was written down: {error}.") from error


def _confirmed(
    network: type[nn.Module], found: Arguments, known: Arguments, shapes: Shapes, mark: Mark | None
) -> Identity:
    """Put what was found and what is known together, and compare the network that this makes with the weights."""
    backend = None
    if found.get("attn_type", "auto") not in ATTN_TYPES and known.get("attn_type") in ATTN_TYPES:
        backend, known = known["attn_type"], {name: known[name] for name in known if name != "attn_type"}
    arguments = {**found, **known}
    check_arguments(arguments, network, network.__name__)
    built = blueprint(network, arguments)
    expected = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items() if not _is_constant(name)}
    _require_equal(network.__name__, shapes, expected)
    if mark is not None:
        _require_same_mark(mark, getattr(built.to_img, "mark", None))
    return Identity(network, arguments, backend)


@contextmanager
def _fitting(network: type[nn.Module]) -> Iterator[None]:
    """Put into words that arguments or shapes are none of a network."""
    try:
        yield
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"The weights are not a whole {network.__name__}: {error} is missing.") from error
    except (ValueError, IndexError, TypeError, ArithmeticError, RuntimeError, AttributeError) as error:
        raise UserError(f"The weights do not fit {network.__name__}: {str(error).partition(chr(10))[0]}.") from error


def identify_at(
    weights: Mapping[str, torch.Tensor], scale: float | None = None, window: int | None = None, **known: Any
) -> Identity:
    """Do what `identify` does, with what the user may have to say.

    Args:
        weights: names and tensors.
        scale: decides where the weights do not tell it, and is not looked at elsewhere.
        window: side of the windows of ESC-RIB, which no weight tells; None for the published one.
        known: arguments of the network that are to be taken as given.

    Returns:
        the network and its arguments.

    Raises:
        UserError: as `identify`; or a window is given, but the weights tell it.
    """
    try:
        identity = identify(weights, **known)
    except UndecidedError:
        if scale is None or scale != int(scale):
            raise
        identity = identify(weights, **{**known, "upscaling_factor": int(scale)})
    return identity if window is None else with_window(identity, window, known)


def with_window(identity: Identity, window: int, known: Arguments) -> Identity:
    """Return a network with the window that the user tells.

    Raises:
        UserError: it is none, or the weights tell it, or another one is known.
    """
    if window != known.get("window_size", window):
        raise UserError(
            f"Two windows are given, window={window} and window_size={known['window_size']}: leave one of them out."
        )
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise UserError(f"The window must be a whole number of at least 1, got {window!r}.")
    told = identity.arguments.get("window_size")
    if identity.network is not ESCRIB:
        raise UserError(
            f"A window is given, which is for ESC-RIB; the weights are those of {identity.network.__name__}: leave it "
            "out."
        )
    if identity.arguments["attn_type"] in ("FlashBias", "auto") and window != told:
        raise UserError(f"The window is {window}, but the weights are made for windows of {told}: leave it out.")
    return replace(identity, arguments={**identity.arguments, "window_size": window})


def _is_constant(name: str) -> bool:
    return name.rpartition(".")[2] in CONSTANTS


def _read_mark(weights: Mapping[str, torch.Tensor]) -> Mark | None:
    """Read the upsampler's mark, which goes before all that shapes suggest.

    Raises:
        UserError: it is of an unknown version.
    """
    found = weights.get(MARK_OF_ALL)
    if found is None or found.is_meta:
        return None
    try:
        return Mark.read(found.flatten().tolist())
    except (ValueError, OverflowError, TypeError) as error:
        raise UserError(f"The weights cannot be used: to_img.{error}; choose another checkpoint.") from error


def _require_same_mark(found: Mark, expected: Mark | None) -> None:
    if found != expected:
        raise MarkError(
            f"The weights contradict what is known: {MARK_OF_ALL} says {_told(found)}, and the rest "
            f"{expected and _told(expected)}; choose another checkpoint, or give other arguments."
        )


def _require_no_other_mark(mark: Mark | None, shapes: Shapes, known: Arguments) -> None:
    """Raise MarkError where weights that cannot be identified can be without what their mark says."""
    if mark is None:
        return
    try:
        found = _recognised(shapes, known, None)
    except UndecidedError:
        rest = "shapes do not allow that"
    except UserError:
        return
    else:
        own = getattr(blueprint(found.network, found.arguments).to_img, "mark", None)
        rest = f"the shapes are those of {_told(own) if own else f'{found.network.__name__} x{found.scale}'}"
    raise MarkError(
        f"The weights contradict each other: {MARK_OF_ALL} says {_told(mark)}, but {rest}; choose another checkpoint."
    )


def _told(mark: Mark) -> str:
    return f"{mark.upsampler!r} x{mark.scale} from {mark.dim} channels (mid_dim {mark.mid_dim})"


def _require_equal(network: str, found: Shapes, expected: Shapes) -> None:
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is left over" for name in found if name not in expected]
    problems += [
        f"{name} has the shape {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(
            f"The weights look like {network}, but {problems[0]}{more}; choose a checkpoint of this network."
        )
