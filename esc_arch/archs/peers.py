"""Networks to compare with that other packages carry, under the names and arguments of their published option files.

SwinIR, EDSR, RCAN and Compact (`SRVGGNetCompact`) are BasicSR's own. HAT, ATD, DAT, OmniSR, PLKSR, RGT, SAFMN, SeemoRe
and SPAN are in `spandrel` (MIT), RDN is in `torchsr` (MIT), SRFormer is in `spandrel_extra_arches` (its licence, CC
BY-NC, keeps it apart). All three are optional and take a while to import, so BasicSR's ARCH_REGISTRY gets objects that
import them when a network is built.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from esc_arch.common.torchvision_operators import define_torchvision_operators

EXTRAS = {"spandrel": "peers", "spandrel_extra_arches": "peers-nc", "torchsr": "peers"}


class Peer:
    """A network of an optional package that is imported when the network is built.

    Args:
        name: name of the class, in the package and in option files.
        package: a key of `EXTRAS`.
        renamed: arguments of published option files that the package calls differently.
        fixed: arguments of published option files that the package lacks, with the only value it implements.
        module: of the package, where the class is; `architectures.NAME` unless told.
    """

    def __init__(
        self,
        name: str,
        package: str,
        renamed: Mapping[str, str] | None = None,
        fixed: Mapping[str, Any] | None = None,
        module: str | None = None,
    ) -> None:
        self.__name__ = name
        self.package = package
        self.module = module or f"architectures.{name}"
        self.renamed = renamed or {}
        self.fixed = fixed or {}

    def __call__(self, **arguments: Any) -> nn.Module:
        """Build the network.

        Args:
            arguments: constructor arguments, as the published option files name them.

        Returns:
            the network, from images (B, 3, H, W) in [0, 1] to images (B, 3, S * H, S * W).

        Raises:
            ImportError: the package is not installed.
            TypeError: an argument is unknown.
            ValueError: an argument has a value that the package does not implement.
        """
        network = self._import()
        for argument, value in self.fixed.items():
            if arguments.pop(argument, value) != value:
                raise ValueError(f"{argument} of {self.__name__} must be {value!r}, {self.package} has nothing else")
        for published, name in self.renamed.items():
            if published in arguments and name not in arguments:
                arguments[name] = arguments.pop(published)
        return network(**arguments)

    @property
    def __signature__(self) -> inspect.Signature | None:
        """What `inspect.signature` tells of the arguments, so that they can be checked before building."""
        try:
            known = inspect.signature(self._import(), eval_str=True).parameters
        except ImportError:
            return None
        accepted = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
            for name in (*self.renamed, *self.fixed)
            if name not in known
        ]
        return inspect.Signature([*known.values(), *accepted])

    def _import(self) -> type[nn.Module]:
        define_torchvision_operators()
        try:
            module = importlib.import_module(f"{self.package}.{self.module}")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in EXTRAS:
                raise
            raise ImportError(
                f"{self.__name__} comes from the package {self.package}, which is not installed or too old; run "
                f"pip install 'esc_arch[{EXTRAS[self.package]}]' (or pip install -U {self.package})"
            ) from error
        return getattr(module, self.__name__)


PEERS = (
    Peer("ATD", "spandrel", fixed={"use_checkpoint": False}),
    Peer("DAT", "spandrel"),
    Peer("HAT", "spandrel"),
    Peer(
        "OmniSR",
        "spandrel",
        renamed={"upsampling": "up_scale"},
        fixed={"block_script_name": "OSA", "block_class_name": "OSA_Block", "ffn_bias": True},
    ),
    Peer("PLKSR", "spandrel"),
    Peer("RDN", "torchsr", module="models.rdn"),
    Peer("RGT", "spandrel", fixed={"upsampler": "pixelshuffle"}),
    Peer("SAFMN", "spandrel"),
    Peer("SeemoRe", "spandrel"),
    Peer("SPAN", "spandrel"),
    Peer("SRFormer", "spandrel_extra_arches"),
)


def register_peers() -> None:
    """Add the peers to BasicSR's ARCH_REGISTRY, unless the name is taken already; imports none of their packages."""
    from basicsr.utils.registry import ARCH_REGISTRY

    for peer in PEERS:
        if peer.__name__ not in ARCH_REGISTRY:
            ARCH_REGISTRY.register(peer)
