"""Reads option files as BasicSR does, and says in one sentence why one cannot be read."""

from __future__ import annotations

import codecs
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from esc_arch.common.errors import UserError

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


LOST = "\ufffd"  # what stands for bytes that are no text
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before those of UTF-16, which begin in the same way
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class OptionLoader(_Loader):  # type: ignore[misc,valid-type]
    """Reads sections as OrderedDict, like BasicSR's loader; makes no Python objects, and refuses a key given twice.

    Numbers are read as they are written: YAML 1.1 takes 010 for 8, and 12:30 for 750, which are 10 and a text in
    YAML 1.2.
    """


def _section(loader: Any, node: yaml.MappingNode) -> OrderedDict[Any, Any]:
    given = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    for index, key in enumerate(given):
        if key in given[:index]:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {key!r} is given twice in one section", problem_mark=node.start_mark
            )
    loader.flatten_mapping(node)
    return OrderedDict(loader.construct_pairs(node, deep=True))


def _as_written(construct: Callable[[Any, yaml.ScalarNode], Any]) -> Callable[[Any, yaml.ScalarNode], Any]:
    def number(loader: Any, node: yaml.ScalarNode) -> Any:
        if ":" in node.value:
            return node.value
        if re.fullmatch(r"[-+]?0[0-7_]+", node.value):
            return int(node.value.replace("_", ""))
        return construct(loader, node)

    return number


OptionLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _section)
OptionLoader.add_constructor("tag:yaml.org,2002:int", _as_written(_Loader.construct_yaml_int))
OptionLoader.add_constructor("tag:yaml.org,2002:float", _as_written(_Loader.construct_yaml_float))
OptionLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)  # a lone =


def load(file: str, where: str = "") -> OrderedDict[str, Any]:
    """Read an option file.

    Args:
        file: its path.
        where: what stands before the path in messages, such as the argument that named it.

    Returns:
        the sections, in their order.

    Raises:
        UserError: the file is missing, no text, not YAML, of another project's form, or holds no options.
    """
    with reading(file, where), open(file, "rb") as stream:
        content = stream.read()
    return parse(content, file, where)


def parse(content: bytes, file: str, where: str = "") -> OrderedDict[str, Any]:
    """Read the content of an option file, as `load` does."""
    with reading(file, where):
        text = text_of(content)
        other = _form_of_text(text)
        options = None if other else yaml.load(text, Loader=OptionLoader)  # a safe loader
    if other or (other := _form_of_sections(options)):
        raise UserError(
            f"{where}{file} is {other}, and of another form than option files here; begin with a file of options/ and "
            "carry the values over."
        )
    if not isinstance(options, OrderedDict):
        raise UserError(f"{where}{file} holds no options; compare the file with those in options/.")
    if LOST in text and LOST.encode() not in content and _holds(options, LOST):
        number = next(n for n, line in enumerate(text.splitlines(), 1) if LOST in line)
        raise UserError(f"{where}{file} is not written in UTF-8 (see line {number}); save it as UTF-8.")
    return options


def _form_of_text(text: str) -> str:
    """Say of a file of another project what it is instead of YAML, or return nothing."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    assigned = sum(bool(re.match(r"[\w.]+\s*=\s*\S", line)) for line in lines)
    if 2 * assigned > len(lines):
        tables = any(re.fullmatch(r"\[+[\w.]+\]+", line) for line in lines)
        return "TOML, as neosr's option files are" if tables else "a program, as mmagic's configurations are"
    if text.lstrip().startswith("{") and re.search(r'"(netG|pretrained_netG|G_optimizer_type)"', text):
        return "an option file of KAIR"
    return ""


def _form_of_sections(options: Any) -> str:
    """Say that sections are those of another project, of which each has a form of its own, or return nothing."""
    train, sets = ((options or {}).get(key) if isinstance(options, dict) else None for key in ("train", "datasets"))
    losses = train.get("losses") if isinstance(train, dict) else None
    listed = isinstance(losses, list) and any(map(_is_small, losses))
    sized = isinstance(sets, dict) and any(_is_small(one) and "lq_size" in one for one in sets.values())
    return "an option file of traiNNer-redux" if listed or sized else ""


def _is_small(section: Any) -> bool:
    """Tell whether the type of a section is in small letters, as classes of BasicSR and its users are not."""
    return isinstance(section, dict) and str(section.get("type", "A")).islower()


def text_of(content: bytes) -> str:
    """Decode an option file: UTF-8, or UTF-16 or UTF-32 as some editors write it; bytes that are neither become `LOST`.

    Comments may hold such bytes, as of Latin-1 or GBK. What an option holds is not guessed.

    Raises:
        UnicodeDecodeError: the file is none of these, nor nearly so.
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    if b"\0" in content:  # options are nearly all in ASCII, whose other bytes are zeros then
        for width in (4, 2):
            for place, order in ((0, "le"), (width - 1, "be")):
                zeros = [content[other::width].count(0) for other in range(width) if other != place]
                if content[place::width].count(0) == 0 and min(zeros) > len(content) / width / 2:
                    return content.decode(f"utf-{8 * width}-{order}")
    return content.decode("utf-8", errors="replace")


def _holds(value: Any, text: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(part, text) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return any(_holds(part, text) for part in value)
    return isinstance(value, str) and text in value


@contextmanager
def reading(file: str, where: str = "") -> Iterator[None]:
    """Turn what opening and parsing an option file raise into a sentence.

    Args:
        file: path of the option file, for messages.
        where: what stands before the path in messages, such as the argument that named it.

    Raises:
        UserError: the file is missing, no text, or not YAML.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{where}{file} cannot be read ({error.strerror}); give the path of an option file.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}{file} is not a text file; give the path of an option file.") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # of a value behind a tag, or a key
        raise UserError(f"{where}{file} is not valid YAML: {_words(error)}.") from error


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()).replace(' in "<unicode string>",', " in")
