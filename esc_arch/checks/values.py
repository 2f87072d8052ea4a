"""Reads the values of options by the table: numbers written as text become numbers, and what does not fit is told."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from esc_arch.checks import table
from esc_arch.checks.kinds import Anything, Kind, OneOf, Text
from esc_arch.checks.names import meant
from esc_arch.checks.table import ARGUMENTS, NAMES, NEEDED_SECTIONS, RENAMED, SECTIONS, Option
from esc_arch.common.errors import UserError

Options = dict[str, Any]
Path = tuple[str, ...]
PHASES = {table.TRAIN: ("train", "val"), table.TEST: ("test", "val", "train")}


def read_values(opt: Mapping[str, Any], is_train: bool) -> tuple[Options, list[str]]:
    """Read all values of an option file.

    Args:
        opt: the options, as they stand in the file or as BasicSR's parser completes them; they are not changed.
        is_train: read for training or for testing.

    Returns:
        the options that were meant, and sentences about those that have no effect.

    Raises:
        UserError: naming the option that is missing, misspelt or out of range, and what is allowed.
    """
    reader = _Reader(table.TRAIN if is_train else table.TEST, str(opt.get("model_type")))
    read = reader.section((), opt)
    for section in NEEDED_SECTIONS[reader.command]:
        place: Any = read
        for key in section.split(":"):
            if place.get(key) is None:
                raise _missing(section)
            place = place[key]
    if not is_train:
        read.setdefault("val", OrderedDict(save_img=True))  # without metrics there is nothing else to test for
        read["val"].setdefault("suffix", None)
    if "val" in read:
        read["val"].setdefault("save_img", False)
    reader.told.extend(_dropped(reader.useless))
    return read, reader.told


def force(opt: Options, entries: Iterable[str], is_train: bool) -> None:
    """Set what `--force_yml` says, in place.

    Args:
        opt: the options of the file.
        entries: `section:key=value`.
        is_train: for training or for testing.

    Raises:
        UserError: an entry is none, or names an option that is neither in the file nor known.
    """
    for entry in entries:
        name, equals, text = entry.partition("=")
        path = tuple(key.strip() for key in name.split(":"))
        if not equals or not all(path):
            raise UserError(f"--force_yml: {entry!r} cannot be understood; write section:key=value.")
        place: Any = opt
        for depth, key in enumerate(path[:-1]):
            if not isinstance(place.get(key), Mapping):
                if find(path[: depth + 1]) is not None:
                    whole = show(path[: depth + 1])
                    raise UserError(f"--force_yml: {whole} is an option, not a section; write {whole}=value.")
                if pattern_of(path[: depth + 1]) is None:
                    raise _not_to_create(path, depth, place)
                place[key] = OrderedDict()
            place = place[key]
        section, option = pattern_of(path[:-1]), find(path)
        if path[-1] not in place and option is None and section not in ARGUMENTS:
            raise _not_to_create(path, len(path) - 1, place)
        place[path[-1]] = _value_of(text.strip(), option, entry)


def pattern_of(path: Path) -> str | None:
    """Return the section of the table to which a path in an option file belongs, or None."""
    for pattern in [*SECTIONS, "datasets", "val:metrics"]:
        parts = pattern.split(":") if pattern else []
        if len(parts) == len(path) and all(_fits(key, part) for key, part in zip(path, parts, strict=True)):
            if parts and parts[-1] != path[-1] and pattern in NAMES and path[-1] not in NAMES[pattern]:
                continue
            return pattern
    return None


def find(path: Path) -> Option | None:
    """Return the option of the table that a path in an option file names, or None."""
    section = pattern_of(path[:-1])
    for name, option in SECTIONS.get(section or "", {}).items() if section is not None else ():
        if path[-1] == name or path[-1] in NAMES.get(name, ()):
            return option
    return None


class _Reader:
    """Walks through the sections; `told` and `useless` gather what is no mistake."""

    def __init__(self, command: str, model: str) -> None:
        self.command = command
        self.model = model
        self.told: list[str] = []
        self.useless: list[str] = []  # options without effect, with the reason where there is one

    def section(self, path: Path, given: Mapping[str, Any]) -> Options:
        """Read one section and those below it."""
        pattern = pattern_of(path)
        read: Options = OrderedDict()
        for key, value in given.items():
            where = (*path, str(key))
            option = find(where)
            if not isinstance(key, str):
                raise UserError(f"{show(where)}: a key must be text; write it in quotes.")
            if option is None and key in table.ADDED.get(pattern or "", ()):
                read[key] = value
            elif option is not None:
                self._option(read, where, option, value, given)
            elif pattern_of(where) is not None:
                self._below(read, where, value)
            elif pattern in ARGUMENTS:
                read[key] = Anything().read(value)
            else:
                self._unknown(where, given)
                read[key] = value  # somebody's own class may read it
        if pattern in SECTIONS:
            self._needed(path, pattern, read)
        return read

    def _option(self, read: Options, where: Path, option: Option, value: Any, given: Mapping[str, Any]) -> None:
        kind_of_part = given.get("type") if where[0] == "datasets" else self.model
        if not option.works:
            if value != option.harmless or option.harmless is None:
                self.useless.append(f"{show(where)} ({option.about})")
        elif option.only and kind_of_part not in option.only and kind_of_part in _types():
            self.useless.append(f"{show(where)} (not read by {kind_of_part})")
        if value is None or (value == "" and option.empty):
            if option.empty or option.works is False:
                read[where[-1]] = None
            return  # ~ is as if the option were not there
        try:
            read[where[-1]] = option.kind.read(value)
        except ValueError:
            quotes = _takes_text(option.kind) and not isinstance(value, str | Mapping | list)
            advice = " in quotes" if quotes else ""
            if quotes and isinstance(value, bool):
                advice += ", without which YAML reads on, off, yes and no so"
            raise UserError(f"{show(where)} is {_quoted(value)}, but must be {option.kind.allowed}{advice}.") from None

    def _below(self, read: Options, where: Path, value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, Mapping):
            raise UserError(f"{show(where)} is {_quoted(value)}, but must be a section of options.")
        if where[0] == "datasets" and len(where) == 2:
            self._phase(where[1])
        if where[:-1] == ("train",) and not self._takes_loss(where[-1]):
            self.useless.append(f"{show(where)} (not read by {self.model})")
        read[where[-1]] = self.section(where, value)

    def _takes_loss(self, name: str) -> bool:
        """Whether the model may read a loss; somebody's own model may read any."""
        from basicsr.utils.registry import MODEL_REGISTRY

        models = table.LOSSES_OF.get(name)
        if models is None or self.model in models or self.model not in MODEL_REGISTRY:
            return True
        return MODEL_REGISTRY.get(self.model).__module__.partition(".")[0] not in ("basicsr", "esc_arch")

    def _phase(self, name: str) -> None:
        phase = name.partition("_")[0]
        if phase in PHASES[self.command] and (phase != table.TRAIN or name == table.TRAIN):
            return
        allowed = "train, val, val_1, val_2" if self.command == table.TRAIN else "test, test_1, test_2"
        raise UserError(
            f"datasets:{name} is no data set that {self.command}ing knows; call it one of {allowed} and so on."
        )

    def _unknown(self, where: Path, given: Mapping[str, Any]) -> None:
        *section, key = where
        pattern = pattern_of(tuple(section))
        renamed = RENAMED.get(pattern or "", {}).get(key)
        close = renamed or meant(key, (name for name in known(pattern) if name not in given))
        if close is not None:
            raise UserError(f"{show(where)} is no option; did you mean {close!r}?")
        twin = meant(key, (str(name) for name in given if name != key and name in known(pattern)))
        if twin is not None:
            self.useless.append(f"{show(where)} (did you mean {twin}, which is there too?)")
            return
        elsewhere = [show((other, key)) if other else key for other in SECTIONS if key in SECTIONS[other]]
        self.useless.append(show(where) + (f" (did you mean {elsewhere[0]}?)" if elsewhere else ""))

    def _needed(self, path: Path, pattern: str, read: Options) -> None:
        for name, option in SECTIONS[pattern].items():
            if self.command in option.needed and name not in read:
                raise _missing(show((*path, name)))
        if pattern != "datasets:*":
            return
        if "io_backend" not in read:
            raise _missing(show((*path, "io_backend")))
        if path[-1] == table.TRAIN:
            for name in ("num_worker_per_gpu", "batch_size_per_gpu"):
                if name not in read:
                    raise _missing(show((*path, name)))
            for name, types in table.NEEDED_IN_TRAINING.items():
                if read["type"] in types and name not in read:
                    raise _missing(show((*path, name)))


def known(pattern: str | None) -> list[str]:
    """Names that a section of an option file may hold: its options and the sections below it."""
    if pattern is None:
        return []
    names = [name for option in SECTIONS.get(pattern, {}) for name in NAMES.get(option, (option,))]
    depth = len(pattern.split(":")) if pattern else 0
    for section in SECTIONS:
        parts = section.split(":")
        if section and len(parts) > depth and ":".join(parts[:depth]) == pattern:
            below = ":".join(parts[: depth + 1])
            names += NAMES.get(below, (parts[depth],) if "*" not in parts[depth] else ())
    return names


def show(path: Iterable[str]) -> str:
    """Write a path as `section:key`."""
    return ":".join(path)


def _fits(key: str, part: str) -> bool:
    return re.fullmatch(re.escape(part).replace(r"\*", ".+"), key) is not None


def _takes_text(kind: Kind) -> bool:
    return isinstance(kind, Text) or (isinstance(kind, OneOf) and any(map(_takes_text, kind.kinds)))


def _types() -> set[str]:
    """Data sets and models that the table knows by name."""
    from basicsr.utils.registry import MODEL_REGISTRY

    named = {name for section in SECTIONS.values() for option in section.values() for name in option.only}
    return named | set(MODEL_REGISTRY.keys())


def _missing(name: str) -> UserError:
    return UserError(f"the option {name} is missing; see the files in options/ for an example.")


def _not_to_create(path: Path, depth: int, place: Mapping[str, Any]) -> UserError:
    section, key = path[:depth], path[depth]
    choices = [str(name) for name in place] + known(pattern_of(section))
    close = RENAMED.get(pattern_of(section) or "", {}).get(key) or meant(key, choices, 0.6)
    advice = f"did you mean {show((*section, close))!r}?" if close else "it is neither in the file nor known."
    return UserError(f"--force_yml: {show(path[: depth + 1])!r} is no option; {advice}")


def _value_of(text: str, option: Option | None, entry: str) -> Any:
    """Read the text of a command line as BasicSR does, but keep what shall be text, and take every number."""
    import yaml
    from basicsr.utils.options import _postprocess_yml_value

    from esc_arch.checks.option_file import OptionLoader

    if option is not None and isinstance(option.kind, Text) and text.lower() not in ("~", "none", "null"):
        return text
    if not text.startswith(("[", "{", "!!")):
        return None if text.lower() == "null" else _postprocess_yml_value(text)
    try:
        return yaml.load(text, Loader=OptionLoader)  # a safe loader
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(
            f"--force_yml: the value of {entry!r} cannot be understood ({type(error).__name__})."
        ) from error


def _dropped(useless: list[str]) -> list[str]:
    if not useless:
        return []
    have = "has" if len(useless) == 1 else "have"
    return [f"{', '.join(useless)} {have} no effect here."]


def _quoted(value: Any) -> str:
    """Write a value as the option file has it, or say what YAML made of it."""
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, date):
        return f"{value.isoformat()}, to YAML a date"
    text = {None: "empty", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else None
    shown = text or repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
