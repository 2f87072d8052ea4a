"""Kinds of values that options have: each reads what was written, says what is allowed, and gives its JSON schema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from esc_arch.checks.option_file import OptionLoader
from esc_arch.checks.written_numbers import to_number

Schema = dict[str, Any]


class Kind:
    """What the value of an option must be."""

    @property
    def allowed(self) -> str:
        """What is allowed, to follow "must be"."""
        raise NotImplementedError

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        raise NotImplementedError

    def read(self, value: Any) -> Any:
        """Return the value that is meant.

        Raises:
            ValueError: the value is none of this kind.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Number(Kind):
    """A number from `low` to `high`; `above` and `below` leave out the ends."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return self._called + self._range

    @property
    def _called(self) -> str:
        return "a number"

    @property
    def _range(self) -> str:
        low = f"{'above' if self.above else 'of at least'} {self.low}" if self.low > -math.inf else ""
        high = f"{'below' if self.below else 'at most'} {self.high}" if self.high < math.inf else ""
        return " " + " and ".join(part for part in (low, high) if part) if low or high else ""

    @property
    def schema(self) -> Schema:
        """The same as JSON schema; text in the notation that YAML 1.1 takes for text is a number too."""
        limits: Schema = {"type": self._type}
        if self.low > -math.inf:
            limits["exclusiveMinimum" if self.above else "minimum"] = self.low
        if self.high < math.inf:
            limits["exclusiveMaximum" if self.below else "maximum"] = self.high
        return {"anyOf": [limits, {"type": "string", "pattern": r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"}]}

    @property
    def _type(self) -> str:
        return "number"

    def read(self, value: Any) -> Any:
        """Return the number that a number or a text is."""
        number = to_number(value)
        if isinstance(value, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(value)
        if number < self.low or number > self.high or (self.above and number == self.low):
            raise ValueError(value)
        if self.below and number == self.high:
            raise ValueError(value)
        return number


@dataclass(frozen=True)
class Whole(Number):
    """A whole number from `low` to `high`."""

    @property
    def _called(self) -> str:
        return "a whole number"

    @property
    def _type(self) -> str:
        return "integer"  # of JSON schema, which 5000.0 is too

    def read(self, value: Any) -> Any:
        """Return the whole number that 5000, 5000.0, 5e3 and "5e3" are."""
        number = super().read(value)
        if number != int(number):
            raise ValueError(value)
        return int(number)


@dataclass(frozen=True)
class Factor(Number):
    """A number from `low` to `high` that counts pixels where it is whole."""

    def read(self, value: Any) -> Any:
        """Return the number, 2 for 2.0."""
        number = super().read(value)
        return int(number) if number == int(number) else number


@dataclass(frozen=True)
class Flag(Kind):
    """true or false."""

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return "true or false"

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        return {"type": "boolean"}

    def read(self, value: Any) -> Any:
        """Return true or false, also for 1 and 0 and for the words as text."""
        text = str(value).lower()
        if isinstance(value, bool | int | str) and text in ("true", "1", "false", "0"):
            return text in ("true", "1")
        raise ValueError(value)


@dataclass(frozen=True)
class Text(Kind):
    """Text that is not empty."""

    what: str = "text"

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return self.what

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        return {"type": "string", "minLength": 1}

    def read(self, value: Any) -> Any:
        """Return the text; numbers and truth values are what YAML made of text without quotes, and not what it was."""
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ValueError(value)
        return value


@dataclass(frozen=True)
class PartOfName(Text):
    """Text that may stand within the name of a file."""

    what: str = "part of a file's name (at most 100 bytes, none of / \\ or line breaks)"

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        return {"type": "string", "pattern": r"^[^/\\\n\r\t]+$", "maxLength": 100}

    def read(self, value: Any) -> Any:
        """Return the text."""
        text = super().read(value)
        if any(c in "/\\" or ord(c) < 32 for c in text) or len(text.encode(errors="surrogateescape")) > 100:
            raise ValueError(value)
        return text


@dataclass(frozen=True)
class FolderName(Text):
    """Text that may name a folder, with room for what BasicSR adds to it."""

    what: str = (
        "the name of a folder (at most 200 bytes, none of / \\ or line breaks, not . or .., no space at its ends)"
    )

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        return {"type": "string", "pattern": r"^(?!\.{1,2}$)(?! )[^/\\\n\r\t]+(?<! )$", "maxLength": 200}

    def read(self, value: Any) -> Any:
        """Return the name."""
        name = super().read(value)
        if name in (".", "..") or name != name.strip() or any(c in "/\\" or ord(c) < 32 for c in name):
            raise ValueError(value)
        if len(name.encode(errors="surrogateescape")) > 200:
            raise ValueError(value)
        return name


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return f"one of {', '.join(self.words)}" if len(self.words) > 1 else self.words[0]

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        return {"enum": list(self.words)}

    def read(self, value: Any) -> Any:
        """Return the word."""
        if value not in self.words:
            raise ValueError(value)
        return value


@dataclass(frozen=True)
class Each(Kind):
    """A list of `least` to `most` values of one kind."""

    kind: Kind
    least: int = 1
    most: int | None = None
    rising: bool = False

    @property
    def allowed(self) -> str:
        """What is allowed."""
        if self.least == self.most:
            count = f"a list of {self.least}, "
        else:
            count = f"a list of at least {self.least}, " if self.least > 1 else "a list, "
        return f"{count}each {self.kind.allowed}" + (", the first not above the last" if self.rising else "")

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        described: Schema = {"type": "array", "items": self.kind.schema, "minItems": self.least}
        if self.most is not None:
            described["maxItems"] = self.most
        return described

    def read(self, value: Any) -> Any:
        """Return the list, also of a text such as "[1, 2]"."""
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                value = yaml.load(value, Loader=OptionLoader)  # a safe loader
            except yaml.YAMLError as error:
                raise ValueError(value) from error
        if not isinstance(value, list | tuple) or len(value) < self.least:
            raise ValueError(value)
        if self.most is not None and len(value) > self.most:
            raise ValueError(value)
        values = [self.kind.read(item) for item in value]
        if self.rising and values[0] > values[-1]:
            raise ValueError(value)
        return values


@dataclass(frozen=True)
class OneOf(Kind):
    """A value of the first kind that it fits."""

    kinds: tuple[Kind, ...]

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return ", or ".join(kind.allowed for kind in self.kinds)

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        return {"anyOf": [kind.schema for kind in self.kinds]}

    def read(self, value: Any) -> Any:
        """Return what the first kind makes of it."""
        for kind in self.kinds:
            try:
                return kind.read(value)
            except ValueError:
                continue
        raise ValueError(value)


@dataclass(frozen=True)
class Map(Kind):
    """A section whose names are free and whose values are of one kind."""

    kind: Kind

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return f"a section of names, each with {self.kind.allowed}"

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        return {"type": "object", "additionalProperties": self.kind.schema}

    def read(self, value: Any) -> Any:
        """Return a section of the same type."""
        if not isinstance(value, Mapping) or not value:
            raise ValueError(value)
        return type(value)((name, self.kind.read(item)) for name, item in value.items())  # type: ignore[call-arg]


@dataclass(frozen=True)
class Anything(Kind):
    """What only the part that reads it can judge; a text that is a number in YAML 1.2 becomes one."""

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return "anything"

    @property
    def schema(self) -> Schema:
        """The same as JSON schema."""
        return {}

    def read(self, value: Any) -> Any:
        """Return the value with its numbers."""
        if isinstance(value, list | tuple):
            return [self.read(item) for item in value]
        if isinstance(value, Mapping):
            return type(value)((name, self.read(item)) for name, item in value.items())  # type: ignore[call-arg]
        return to_number(value)
