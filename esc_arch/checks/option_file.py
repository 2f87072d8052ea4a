"""Reads option files as BasicSR does, and says in one sentence why one cannot be read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from esc_arch.common.errors import UserError

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


class OptionLoader(_Loader):  # type: ignore[misc,valid-type]
    """Reads sections as OrderedDict, like BasicSR's loader; makes no Python objects, and refuses a key given twice."""


def _section(loader: Any, node: yaml.MappingNode) -> OrderedDict[Any, Any]:
    given = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    for index, key in enumerate(given):
        if key in given[:index]:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {key!r} is given twice in one section", problem_mark=node.start_mark
            )
    loader.flatten_mapping(node)
    return OrderedDict(loader.construct_pairs(node, deep=True))


OptionLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _section)


def load(file: str, where: str = "") -> OrderedDict[str, Any]:
    """Read an option file.

    Args:
        file: its path.
        where: what stands before the path in messages, such as the argument that named it.

    Returns:
        the sections, in their order.

    Raises:
        UserError: the file is missing, no text, not YAML, or holds no options.
    """
    with reading(file, where), open(file, encoding="utf-8-sig") as stream:
        content = yaml.load(stream, Loader=OptionLoader)  # a safe loader
    if not isinstance(content, OrderedDict):
        raise UserError(f"{where}{file} holds no options; compare the file with those in options/.")
    return content


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
        raise UserError(f"{where}{file} is not valid YAML: {' '.join(str(error).split())}.") from error
