"""Pickles of every protocol, written anew with the instructions that torch's restricted loader knows.

It knows those that protocol 2 is written in, torch's default. The others are abbreviations, the same objects in
different bytes, or sets, which lists and tuples may stand for, as no weight is in one. Nothing is built or called here.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from pickle import encode_long
from typing import IO, Any

from esc_arch.weights.reading.pickle_scan import UnsupportedPickleError

BYTES = b"c_codecs\nencode\n"  # as protocol 2 has bytes: a text of Latin letters, encoded
BYTE_ARRAY = b"c__builtin__\nbytearray\n"
SAME_FOR_MARKED = {"TUPLE": b"t", "FROZENSET": b"t"}
FILLING = {"SETITEMS": b"u", "APPENDS": b"e", "ADDITEMS": b"e"}
EMPTY = {"EMPTY_TUPLE": b")", "EMPTY_LIST": b"]", "EMPTY_SET": b"]", "EMPTY_DICT": b"}"}
WRITTEN_OUT = {"LIST": (b"]", b"e"), "DICT": (b"}", b"u")}  # made and then filled
CONSTANTS = {"NONE": b"N", "NEWTRUE": b"\x88", "NEWFALSE": b"\x89"}
TEXTS = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")
NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
CLOSING = {"REDUCE": (b"R", 1), "NEWOBJ": (b"\x81", 1), "BUILD": (b"b", 1), "APPEND": (b"a", 1), "SETITEM": (b"s", 2)}


@dataclass
class Item:
    """What lies on the loader's stack.

    Attributes:
        start: number of the first instruction that makes it.
        atom: the whole instruction, where it needs one only and may be repeated in place of being remembered.
        text: it is.
    """

    start: int
    atom: bytes | None = None
    text: str | None = None


def translate(stream: IO[bytes]) -> bytes:
    """Translate a pickle into protocol 2.

    Args:
        stream: where the pickle begins; it is read to just behind it.

    Returns:
        the pickle.

    Raises:
        UnsupportedPickleError: it has instructions for which there is no word, as no checkpoint has them.
        Exception: of any kind; it is damaged.
    """
    out: list[bytes] = [b"\x80\x02"]
    stack: list[Item] = []
    marks: list[tuple[int, list[Item]]] = []
    memo: dict[int, Item] = {}

    def push(instruction: bytes, atom: bool = False, text: str | None = None) -> None:
        stack.append(Item(len(out), instruction if atom else None, text))
        out.append(instruction)

    argument: Any
    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name in CONSTANTS:
            push(CONSTANTS[name], atom=True)
        elif name in TEXTS:
            push(_text(argument), atom=True, text=argument)
        elif name in NUMBERS:
            push(_number(argument), atom=True)
        elif name in ("FLOAT", "BINFLOAT"):
            push(b"G" + struct.pack(">d", argument), atom=True)
        elif name in ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"):
            push(_bytes(argument), atom=True)
        elif name == "BYTEARRAY8":
            push(BYTE_ARRAY + _bytes(bytes(argument)) + b"\x85R", atom=True)
        elif name in EMPTY:
            push(EMPTY[name])
        elif name == "GLOBAL":
            push(_global(*str(argument).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            module, attribute = stack[-2:]
            if module.text is None or attribute.text is None:
                raise ValueError("a class without a name")
            del out[module.start :], stack[-2:]
            push(_global(module.text, attribute.text))
        elif name == "MARK":
            marks.append((len(out), stack))
            stack = []
            out.append(b"(")
        elif name in SAME_FOR_MARKED:
            start, stack = marks.pop()
            out.append(SAME_FOR_MARKED[name])
            stack.append(Item(start))
        elif name in FILLING:
            _, stack = marks.pop()
            out.append(FILLING[name])
        elif name in WRITTEN_OUT:
            start, stack = marks.pop()
            made, filled = WRITTEN_OUT[name]
            out.insert(start, made)  # what is behind it are the items, none of which lies on the stack any more
            out.append(filled)
            stack.append(Item(start))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [Item(stack[-count].start)]
            out.append((b"\x85", b"\x86", b"\x87")[count - 1])
        elif name in CLOSING:
            instruction, arguments = CLOSING[name]
            out.append(instruction)
            del stack[-arguments:]
            stack[-1] = Item(stack[-1].start)
        elif name == "NEWOBJ_EX":  # the arguments by keyword are one more argument; what is made takes anything
            out.append(b"\x86\x81")
            del stack[-2:]
            stack[-1] = Item(stack[-1].start)
        elif name == "BINPERSID":
            out.append(b"Q")
            stack[-1] = Item(stack[-1].start)
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            place = len(memo) if name == "MEMOIZE" else int(argument)
            memo[place] = stack[-1]
            if stack[-1].atom is None:
                out.append(b"r" + struct.pack("<I", place))
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            known = memo[int(argument)]
            push(known.atom or b"j" + struct.pack("<I", int(argument)), known.atom is not None, known.text)
        elif name == "STOP":
            out.append(b".")
        elif name not in ("PROTO", "FRAME"):
            raise UnsupportedPickleError(name)
    return b"".join(out)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _bytes(content: bytes) -> bytes:
    return BYTES + _text(content.decode("latin1")) + _text("latin1") + b"\x86R"


def _number(number: int) -> bytes:
    if isinstance(number, bool):
        return CONSTANTS["NEWTRUE" if number else "NEWFALSE"]
    if -(2**31) <= number < 2**31:
        return b"J" + struct.pack("<i", number)
    encoded = encode_long(number)
    return b"\x8a" + struct.pack("<B", len(encoded)) + encoded


def _global(module: Any, attribute: str) -> bytes:
    if "\n" in module + attribute:
        raise ValueError("a class with a broken name")
    return f"c{module}\n{attribute}\n".encode()
