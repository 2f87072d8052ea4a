"""What loading a pickle would do, found out without doing any of it.

torch's loader with `weights_only=True` builds what it knows and stops at the first class that it does not. To let it
pass over harmless objects beside the weights, one has to know before what they are and how they are filled; and how
large the tensors claim to be, before memory is taken for them.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass, field
from typing import IO, Any

REBUILD = "torch._tensor._rebuild_from_type_v2"  # a function, its arguments, and the class of the result


class UnsupportedPickleError(ValueError):
    """The pickle has instructions that torch's loader does not know."""


@dataclass(frozen=True)
class Global:
    """A class or function, named by the pickle."""

    path: str


@dataclass(frozen=True)
class Made:
    """An object that calling a class or function gives, or any other object that was built ("")."""

    by: str = ""


@dataclass(frozen=True)
class Storage:
    """Numbers beside the pickle: their key, the type of storage and how many there are said to be."""

    key: str
    type: str
    count: int


@dataclass
class Scan:
    """What a pickle does.

    Attributes:
        globals: classes and functions that it names.
        filled: those of them whose objects get entries as dictionaries do ("entries") or items as lists do ("items").
        built: those of them whose objects get a state.
        tensors: those of them that are said to be kinds of tensors.
        storages: numbers that it takes from beside the pickle.
        result: the object, as far as it was followed: a number, a text, or a tuple of such.
    """

    globals: set[str] = field(default_factory=set)
    filled: dict[str, str] = field(default_factory=dict)
    built: set[str] = field(default_factory=set)
    tensors: set[str] = field(default_factory=set)
    storages: list[Storage] = field(default_factory=list)
    result: Any = None


def scan(stream: IO[bytes]) -> Scan:
    """Follow a pickle to its end.

    Args:
        stream: where the pickle begins; it is read to just behind it.

    Returns:
        what it does.

    Raises:
        UnsupportedPickleError: it is of a protocol that torch's loader does not read.
        Exception: of any kind; it is damaged.
    """
    found, stack, marks, memo = Scan(), [], [], {}  # type: ignore[var-annotated]
    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BINUNICODE", "SHORT_BINSTRING", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"):
            stack.append(argument)
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name == "TUPLE":
            items, stack = tuple(stack), marks.pop()
            stack.append(items)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "GLOBAL":
            stack.append(_global(str(argument)))
            found.globals.add(stack[-1].path)
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            found.tensors.update(_kind_of_tensor(stack[-1], arguments))
            stack[-1] = Made(stack[-1].path if isinstance(stack[-1], Global) else "")
        elif name == "BINPERSID":
            stack[-1] = _storage(found, stack[-1])
        elif name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS"):
            if name in ("SETITEM", "APPEND"):
                del stack[-2 if name == "SETITEM" else -1 :]
            else:
                stack = marks.pop()
            if isinstance(stack[-1], Made) and stack[-1].by:
                found.filled[stack[-1].by] = "entries" if name.startswith("SETITEM") else "items"
        elif name == "BUILD":
            stack.pop()
            if isinstance(stack[-1], Made):
                found.built.add(stack[-1].by)
        elif name in ("NONE", "NEWFALSE", "NEWTRUE"):
            stack.append({"NONE": None, "NEWFALSE": False, "NEWTRUE": True}[name])
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET"):
            stack.append(Made())
        elif name == "STOP":
            found.result = stack.pop()
        elif name != "PROTO":
            raise UnsupportedPickleError(name)
    return found


def _kind_of_tensor(function: Any, arguments: Any) -> list[str]:
    """Name the class of which torch is to make a tensor, where it is one of somebody else's."""
    if not isinstance(function, Global) or function.path != REBUILD or not isinstance(arguments, tuple):
        return []
    kinds = [kind.path for kind in arguments[1:2] if isinstance(kind, Global)]
    return [path for path in kinds if not path.startswith("torch.")]


def _global(argument: str) -> Global:
    """Name a class or function as torch's loader does."""
    module, _, name = argument.partition(" ")
    # protocol 2 keeps the names of Python 2
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return Global(f"{module}.{name}")


def _storage(found: Scan, key: Any) -> Made:
    """Note a storage, of which a persistent key speaks: ("storage", type, key, device, count, ...)."""
    if not isinstance(key, tuple):
        raise ValueError("a reference to something that is no storage")
    word, kind, name, _, count, *_ = key
    known = isinstance(kind, Global) and isinstance(name, str | int) and isinstance(count, int)
    if word != "storage" or not known or count < 0:
        raise ValueError("a reference to something that is no storage")
    found.storages.append(Storage(str(name), kind.path, count))
    return Made()
