"""Stand-ins for objects beside the weights, so that nothing of their code is imported or run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from esc_arch.weights.reading.pickle_scan import Scan

ARRAY = tuple(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
DANGEROUS_MODULES = (
    *(
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "socket",
        "importlib",
        "runpy",
        "ctypes",
        "pty",
        "webbrowser",
    ),
    *("pickle", "_pickle", "marshal", "code", "asyncio", "multiprocessing", "signal", "threading", "tempfile"),
)
DANGEROUS = ("eval", "exec", "compile", "__import__", "open", "input", "breakpoint")  # of builtins


class StandIn:
    """Takes the place of an object: made from anything, given any state, doing nothing."""

    path = ""  # of the class that it stands for

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class EntriesStandIn(StandIn):
    """Takes the place of a dictionary of any other class; torch fills no dictionaries but its own."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()


class ItemsStandIn(StandIn):
    """Takes the place of a list of any other class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return []


class DtypeStandIn(StandIn):
    """Takes the place of `numpy.dtype`: its code, as "f4", and the order of its bytes."""

    def __init__(self, *args: Any) -> None:
        self.code = args[0] if args else None
        self.state = None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype, of plain numbers only."""
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        if not isinstance(self.code, str) or self.code[:1] not in "biufc" or not self.code[1:].isdigit():
            return None
        return np.dtype(("" if order not in ("<", ">") else order) + self.code)


class ArrayStandIn(StandIn):
    """Takes the place of an array of NumPy, whose bytes are kept and read as numbers when asked for."""

    def tensor(self) -> torch.Tensor:
        """Return the numbers.

        Raises:
            ValueError: they are no plain numbers, or do not fit the shape.
        """
        if not (isinstance(self.state, tuple) and len(self.state) == 5):
            raise ValueError("an array without numbers")
        _, shape, kind, transposed, content = self.state
        if not (isinstance(kind, DtypeStandIn) and kind.dtype is not None and isinstance(content, bytes)):
            raise ValueError("an array of something else than numbers")
        array = np.frombuffer(content, kind.dtype).astype(kind.dtype.newbyteorder("="))
        return torch.from_numpy(array.reshape(shape, order="F" if transposed else "C").copy(order="C"))


def dangerous(scan: Scan) -> str | None:
    """Name a function that a pickle wants called and that no checkpoint needs, or None."""
    for path in sorted(scan.globals):
        module, _, name = path.partition(".")
        if module in DANGEROUS_MODULES or (module == "builtins" and name in DANGEROUS):
            return path
    return None


def stand_ins(scan: Scan) -> Iterable[tuple[Any, str]]:
    """Make a stand-in for every class and function of a pickle; torch takes its own where it knows the name."""
    for path in scan.globals:
        base: type[StandIn] = {"entries": EntriesStandIn, "items": ItemsStandIn}.get(scan.filled.get(path, ""), StandIn)
        if path in ARRAY:
            base = ArrayStandIn
        elif path == "numpy.dtype":
            base = DtypeStandIn
        yield type(base.__name__, (base,), {"path": path}), path
