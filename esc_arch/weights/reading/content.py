"""The content of any checkpoint, whatever its format, or one sentence on why there is none."""

from __future__ import annotations

import re
import warnings
from typing import Any

from esc_arch.common.errors import UserError
from esc_arch.weights.reading.in_parts import read_parts, require_whole
from esc_arch.weights.reading.kinds import Kind, kind_of
from esc_arch.weights.reading.pickle_scan import UnsupportedPickleError
from esc_arch.weights.reading.torch_file import AGAIN, read_legacy, read_zip
from esc_arch.weights.recorded import RECORD


def read_content(file: str) -> Any:
    """Read what a checkpoint holds, without running anything that a stranger may have put into it.

    Args:
        file: path of a checkpoint: safetensors, anything that `torch.save` wrote, or the index of several files of
            these kinds. Its suffix does not count.

    Returns:
        the content: tensors, containers and numbers. Other objects are `StandIn`s, and arrays `ArrayStandIn`s.

    Raises:
        UserError: the file is missing, damaged, or something else.
    """
    require_whole(file)
    return _read(file, kind_of(file))


def _read(file: str, kind: Kind) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols and storages, of no use to who has the file only
            return READ[kind](file)
    except UserError:
        raise
    except UnsupportedPickleError as error:
        raise UserError(
            f"{file} was pickled by a protocol that is not read here ({error}), or is damaged; save it with torch.save "
            "and no pickle_protocol."
        ) from error
    except MemoryError as error:
        raise UserError(f"{file} is damaged, or too large for the memory of this machine; {AGAIN}.") from error
    except Exception as error:  # what is damaged may raise anything at all
        raise UserError(f"{file} is damaged{_reason(error)}; {AGAIN}.") from error


def _read_safetensors(file: str) -> Any:
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(file, framework="pt") as opened:
        remarks = opened.metadata() or {}
    return {**load_file(file), **({RECORD: remarks[RECORD]} if RECORD in remarks else {})}


def _read_part(file: str) -> Any:
    kind = kind_of(file)
    if kind is Kind.INDEX:
        raise UserError(f"{file} is named as a part of a checkpoint, but is an index; {AGAIN}.")
    return _read(file, kind)


def _read_index(file: str) -> Any:
    return read_parts(file, _read_part)


READ = {
    Kind.SAFETENSORS: _read_safetensors,
    Kind.ZIP: read_zip,
    Kind.LEGACY: read_legacy,
    Kind.INDEX: _read_index,
}


def _reason(error: Exception) -> str:
    """Quote an error, unless it is torch's, which advises to load files without protection."""
    words = re.sub(r"[^ -~]+", " ", str(error).partition("\n")[0]).strip().rstrip(".")
    return f" ({words[:120]})" if words and "weights" not in words.lower() and "torch" not in words.lower() else ""
