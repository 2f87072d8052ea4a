"""Joins this package to BasicSR: mends BasicSR and registers our networks the moment BasicSR is imported.

Importing BasicSR takes seconds (it imports torchvision, scipy and all its own networks), so `import esc_arch` does not
do it. A finder on `sys.meta_path` waits for the first `import basicsr` instead and runs `mends` around it. When
BasicSR is already there, all is done at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from esc_arch.bridge import mends


def attach() -> None:
    """Mend BasicSR and register all networks, data sets, metrics and models here, now or when it is imported."""
    if "basicsr" in sys.modules:
        _after_import()
    elif not any(isinstance(finder, _BasicSRFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BasicSRFinder())


def register_networks() -> None:
    """Add the networks of this package, and its peers, to BasicSR's ARCH_REGISTRY, unless the name is taken already."""
    from basicsr.utils.registry import ARCH_REGISTRY

    from esc_arch.archs import NETWORKS
    from esc_arch.archs.peers import register_peers

    for network in NETWORKS:
        if network.__name__ not in ARCH_REGISTRY:
            ARCH_REGISTRY.register(network)
    importlib.import_module("esc_arch.archs.deep_discriminator_arch")  # which may be what imports BasicSR
    register_peers()


def _after_import() -> None:
    for mend in mends.AFTER_IMPORT:
        mend()
    register_networks()
    importlib.import_module("esc_arch.data")
    importlib.import_module("esc_arch.metrics")
    importlib.import_module("esc_arch.models")


class _BasicSRFinder(MetaPathFinder):
    """Finds `basicsr`, as the import system would, with a loader that acts before and after."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "basicsr":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec("basicsr")
        finally:
            sys.meta_path.insert(0, self)  # to ask whether BasicSR is there is not yet to import it
        if spec is not None and spec.loader is not None:
            spec.loader = _MendingLoader(spec.loader)
        return spec


class _MendingLoader(Loader):
    """Delegates to the real loader of BasicSR, with the mends around it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _BasicSRFinder)]
        try:
            for mend in mends.BEFORE_IMPORT:
                mend()
            self._loader.exec_module(module)
            _after_import()
        except BaseException:
            sys.meta_path.insert(0, _BasicSRFinder())  # the import failed: be there when it is tried again
            raise
