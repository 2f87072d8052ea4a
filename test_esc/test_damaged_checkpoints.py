"""Damaged checkpoints end in one sentence, or load: never in a stack trace, whatever is damaged."""

from __future__ import annotations

import io
import json
import pickletools
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise

import esc_arch
from esc_arch.archs import ESC
from esc_arch.common.errors import UserError

FEW, ALL = 16, 400
PICTURE = np.random.default_rng(0).integers(0, 256, (9, 10, 3), np.uint8)
NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 2**16, 2**31 - 1, -(2**31), 2**32, 2**40, 2**63 - 1)


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def safetensors(weights: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save(weights)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return dict(randomise(ESC(**TINY)).state_dict())


FORMATS: dict[str, Callable[[dict[str, torch.Tensor]], bytes]] = {
    "zip": lambda weights: saved({"params": weights, "iter": 5, "psnr": np.float64(31.0)}),
    "legacy": lambda weights: saved({"params": weights, "iter": 5}, _use_new_zipfile_serialization=False),
    "protocol 4": lambda weights: saved(
        {"params": weights, "psnr": np.float64(31.0)}, pickle_protocol=4, _use_new_zipfile_serialization=False
    ),
    "safetensors": safetensors,
}


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flip_bits_where_it_hurts(data: bytes, chance: random.Random) -> bytes:
    """Change the beginning and the end, where headers and directories are."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 4))):
        place = min(int(chance.expovariate(1 / 400)), len(data) - 1)
        changed[place if chance.random() < 0.5 else -1 - place] = chance.randrange(256)
    return bytes(changed)


def move(data: bytes, chance: random.Random) -> bytes:
    """Remove, double, or put in some bytes."""
    place, length = chance.randrange(len(data)), chance.choice((1, 2, 8, 100))
    return data[:place] + chance.choice((b"", data[place : place + length] * 2, bytes(length))) + data[place + length :]


def change_text(data: bytes, chance: random.Random) -> bytes:
    """Change characters of names and numbers alone, so that what they stand in remains whole."""
    places = [place for place, byte in enumerate(data) if 48 <= byte < 123]
    changed = bytearray(data)
    for place in chance.sample(places, min(chance.choice((1, 2, 5)), len(places))):
        changed[place] = chance.choice(b"0123456789.abcxyzFUW_[]{}\"',")
    return bytes(changed)


def change_pickle(data: bytes, chance: random.Random) -> bytes:
    """Change the pickle of a zip archive, and write it with a right check sum."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = chance.choice((flip_bits, change_text, move, cut, change_numbers, change_operations))(
                    content, chance
                )
            target.writestr(entry.filename, content)
    return out.getvalue()


def change_old_pickle(data: bytes, chance: random.Random) -> bytes:
    """Change a number or an operation in the pickles of the old format, which come first."""
    stream = io.BytesIO(data)
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
    end = stream.tell()
    return chance.choice((change_numbers, change_operations))(data[:end], chance) + data[end:]


def change_directory(data: bytes, chance: random.Random) -> bytes:
    """Set a field of a zip archive's directory, of the header of an entry, or of the end, to any number."""
    marks = (b"PK\x01\x02", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07")
    mark = chance.choice([mark for mark in marks if mark in data])
    places = [match.start() for match in re.finditer(re.escape(mark), data)]
    place = chance.choice(places) + chance.randrange(4, 46)
    form = chance.choice(("<B", "<H", "<I", "<Q"))
    wanted = chance.choice((*NUMBERS, len(data), chance.randrange(2**16)))
    number = struct.pack(form, wanted % 256 ** struct.calcsize(form))
    return data[:place] + number + data[place + len(number) :]


def change_numbers(content: bytes, chance: random.Random) -> bytes:
    """Change a small number of a pickle, a size or a stride, to any other."""
    places = [place for place in range(len(content) - 1) if content[place : place + 1] in (b"K", b"M")]
    place = chance.choice(places)
    number = b"J" + struct.pack("<i", max(min(chance.choice(NUMBERS), 2**31 - 1), -(2**31)))
    return content[:place] + number + content[place + (2 if content[place : place + 1] == b"K" else 3) :]


def change_operations(content: bytes, chance: random.Random) -> bytes:
    """Put one operation of a pickle in the place of another."""
    operations = b"}](tuaesqrhjXUKMJGRQbNc\x80\x81\x85\x86\x87\x88\x89\x8a."
    places = [place for place, byte in enumerate(content) if byte in operations]
    changed = bytearray(content)
    changed[chance.choice(places)] = chance.choice(operations)
    return bytes(changed)


def change_header(data: bytes, chance: random.Random) -> bytes:
    """Change the header of safetensors, as JSON or as text, and its length."""
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + length], data[8 + length :]
    if chance.random() < 0.3:
        return struct.pack("<Q", chance.choice(NUMBERS) % 2**64) + header + rest
    if chance.random() < 0.3:
        header = change_text(header, chance)
        return struct.pack("<Q", len(header)) + header + rest
    content = json.loads(header)
    name = chance.choice([name for name in content if name != "__metadata__"])
    what = chance.choice(("shape", "data_offsets", "dtype", "name", "gone", "entry"))
    if what == "gone":
        del content[name]
    elif what == "entry":
        content[name] = chance.choice((None, [], {}, 3, "x"))
    elif what == "name":
        content[chance.choice(("", "a.b", "blocks.999999999.proj.weight", "\n", "x" * 5000, "é"))] = content.pop(name)
    elif what == "dtype":
        content[name]["dtype"] = chance.choice(("F16", "I64", "BOOL", "F8_E4M3", "C64", "U8", "F4", "nothing", None, 5))
    else:
        numbers = content[name][what]
        content[name][what] = chance.choice(
            ([], numbers[::-1], [*numbers, 1], [chance.choice(NUMBERS) for _ in numbers], "x", None, [1.5])
        )
    header = json.dumps(content).encode()
    return struct.pack("<Q", len(header)) + header + rest


ANY = (cut, flip_bits, flip_bits_where_it_hurts, move, change_text)
DAMAGES = {
    "zip": (*ANY, change_pickle, change_pickle, change_directory, change_directory),
    "legacy": (*ANY, change_old_pickle, change_old_pickle),
    "protocol 4": (*ANY, change_old_pickle, change_old_pickle),
    "safetensors": (*ANY, change_header, change_header),
}


def damage(kind: str, data: bytes, seed: int) -> tuple[str, bytes]:
    chance = random.Random(f"{kind} {seed}")
    how = chance.choice(DAMAGES[kind])
    return how.__name__, how(data, chance)


def outcome(read: Callable[[], Any]) -> str:
    """Say how reading ends: `fine`, `refused`, or in anything else."""
    try:
        read()
    except UserError as error:
        if "\n" in str(error) or "weights_only" in str(error) or len(str(error)) > 600:
            return f"unclear: {error}"
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "fine"


@pytest.mark.parametrize(
    ("count", "kind"),
    [(FEW, kind) for kind in FORMATS if kind != "protocol 4"]
    + [pytest.param(ALL, kind, marks=pytest.mark.slow) for kind in FORMATS],
)
def test_no_stack_trace_from_damaged_files(
    tmp_path: Path, weights: dict[str, torch.Tensor], kind: str, count: int
) -> None:
    whole, file = FORMATS[kind](weights), tmp_path / "damaged.pth"
    found = {}

    def same() -> None:
        loaded = esc_arch.load(file).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())

    for seed in range(count):
        how, data = damage(kind, whole, seed)
        file.write_bytes(data)
        if kind == "zip" and how != "change_pickle":  # there are check sums: what loads is what was written
            found[how, seed, "numbers"] = outcome(same)
        found[how, seed, "load"] = outcome(lambda: esc_arch.load(file))
        found[how, seed, "upscale"] = outcome(lambda: esc_arch.upscale_image(PICTURE, file))
    assert {key: what for key, what in found.items() if what not in ("fine", "refused")} == {}
    assert sum(what == "refused" for what in found.values()) > len(found) / 2
