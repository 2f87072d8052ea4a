"""Stand-ins for objects beside the weights, so that nothing of their code is imported or run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from esc_arch.weights.reading.pickle_scan import Scan

ARRAY = tuple(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
BUFFERED_ARRAY = tuple(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core"))
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
    """Takes the place of an object: made from anything, given any state, doing nothing.

    Attributes:
        arguments: it was made from.
        state: it was given.
    """

    path = ""  # of the class that it stands for
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        made.arguments, made.state = args, None
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

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


class ListStandIn(list[Any]):
    """Takes the place of a list of any other class that has attributes too, which are forgotten."""

    path = ""

    def __setstate__(self, state: Any) -> None:
        pass


class DtypeStandIn(StandIn):
    """Takes the place of `numpy.dtype`: its code, as "f4", and the order of its bytes."""

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype, of plain numbers only."""
        code = self.arguments[0] if self.arguments else None
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        if not isinstance(code, str) or code[:1] not in "biufc" or not code[1:].isdigit():
            return None
        return np.dtype(("" if order not in ("<", ">") else order) + code)


class ArrayStandIn(StandIn):
    """Takes the place of an array of NumPy, whose bytes are kept and read as numbers when asked for."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape that is told, None where it is none."""
        try:
            shape = self._parts()[2]
        except ValueError:
            return None
        return shape if isinstance(shape, tuple) and all(isinstance(side, int) for side in shape) else None

    def tensor(self) -> torch.Tensor:
        """Return the numbers.

        Raises:
            ValueError: they are no plain numbers, or do not fit the shape.
        """
        content, kind, shape, order = self._parts()
        if not (isinstance(kind, DtypeStandIn) and kind.dtype is not None and isinstance(content, bytes | bytearray)):
            raise ValueError("an array of something else than numbers")
        array = np.frombuffer(content, kind.dtype).astype(kind.dtype.newbyteorder("="))
        return torch.from_numpy(array.reshape(shape, order=order).copy(order="C"))

    def _parts(self) -> tuple[Any, Any, Any, Any]:
        """Return bytes, dtype, shape and order."""
        if not (isinstance(self.state, tuple) and len(self.state) == 5):
            raise ValueError("an array without numbers")
        _, shape, kind, transposed, content = self.state
        return content, kind, shape, "F" if transposed else "C"


class BufferedArrayStandIn(ArrayStandIn):
    """Takes the place of an array of NumPy as protocol 5 has it."""

    def _parts(self) -> tuple[Any, Any, Any, Any]:
        if len(self.arguments) != 4:
            raise ValueError("an array without numbers")
        content, kind, shape, order = self.arguments
        return content, kind, shape, "F" if order == "F" else "C"


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
        items = ListStandIn if path in scan.built else ItemsStandIn
        base: type = {"entries": EntriesStandIn, "items": items}.get(scan.filled.get(path, ""), StandIn)
        if path in scan.tensors:
            yield torch.Tensor, path
            continue
        if path in ARRAY + BUFFERED_ARRAY:
            base = ArrayStandIn if path in ARRAY else BufferedArrayStandIn
        elif path == "numpy.dtype":
            base = DtypeStandIn
        yield type(base.__name__, (base,), {"path": path}), path
