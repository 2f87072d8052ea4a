"""Checks arguments of option files against the signature of the class or function that takes them."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin

from esc_arch.checks.names import hint, meant
from esc_arch.checks.written_numbers import to_number
from esc_arch.common.errors import UserError

NUMBERS = {int: Integral, float: Real}
NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
SEVERAL = {int: "whole numbers", float: "numbers", str: "texts"}


def check_arguments(
    given: Mapping[str, Any], function: Callable[..., Any], where: str, handed_over: Iterable[str] = (), takes: str = ""
) -> None:
    """Check names and kinds of arguments.

    Args:
        given: the arguments of the option file.
        function: what takes them.
        where: name of the section, for messages.
        handed_over: parameters that do not come from the option file.
        takes: name of the function, for messages.

    Raises:
        UserError: an argument is unknown, or a misspelling of a known one, or missing, or of another kind.
    """
    handed = set(handed_over)
    signature = _signature(function)
    known = [name for name, p in signature.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    known = [name for name in known if name not in handed]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    takes = takes or getattr(function, "__name__", str(function))
    for name in given:
        if name not in known and (not takes_any or meant(name, known)):
            raise UserError(f"{where}: {takes} has no argument {name!r}{hint(name, known)}.")
    for name in known:
        parameter = signature[name]
        if parameter.default is parameter.empty and name not in given:
            raise UserError(f"{where}: the argument {name!r} of {takes} is missing.")
        if name in given:
            _check_kind(given[name], parameter, f"{where}:{name}")


def _signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters, with their types where these can be looked up."""
    try:
        return inspect.signature(function, eval_str=True).parameters
    except NameError:  # of what is imported for type checkers alone
        return inspect.signature(function).parameters


def _check_kind(value: Any, parameter: inspect.Parameter, where: str) -> None:
    """Check the kind of an argument; a text such as 'no' would count as true, and 8.0 fails deep within a network.

    Without a type the default tells no more than whether a number or a truth value is wanted.
    """
    wanted = parameter.annotation
    if wanted is parameter.empty or isinstance(wanted, str):
        kind = type(parameter.default)
        if kind not in (bool, int, float) or not isinstance(value, str | dict):
            return
        wanted = bool if kind is bool else float
    if _is_a(value, wanted):
        return
    number = to_number(value)
    advice = ""
    if number is not value and _is_a(number, wanted):
        text = str(number)
        advice = f"; write {text.replace('e', '.0e') if '.' not in text else text}, without quotes"
    shown = "empty" if value is None else repr(dict(value) if isinstance(value, Mapping) else value)
    raise UserError(f"{where} is {shown}, but must be {_named(wanted)}{advice}.")


def _is_a(value: Any, wanted: Any) -> bool:
    """Tell whether a value of an option file is of a type; of types that no such file can hold anything is."""
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return any(_is_a(value, part) for part in parts if part is type(None) or _can_be_written(part))
    if origin is Literal:
        return value in parts
    if wanted in NUMBERS:
        is_number = isinstance(value, NUMBERS[wanted]) and not isinstance(value, bool)
        return is_number and (isinstance(value, Integral) or math.isfinite(value))
    if wanted is bool:
        return isinstance(value, int) and value in (0, 1)
    if wanted in (str, type(None)):
        return isinstance(value, wanted)
    if _is_list(origin):
        return isinstance(value, list | tuple) and all(_is_a(item, parts[0]) for item in value)
    return isinstance(value, Mapping) if origin is dict else True


def _named(wanted: Any) -> str:
    """Say what a type is in an option file."""
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(_named(part) for part in parts if part is type(None) or _can_be_written(part))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if _is_list(origin):
        kinds = get_args(parts[0]) or parts
        return f"a list of {SEVERAL.get(kinds[0], 'values')}"
    return "a section" if origin is dict else NAMES.get(wanted, "another value")


def _is_list(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Collection) and origin is not dict


def _can_be_written(wanted: Any) -> bool:
    """Tell whether an option file can hold a value of this type."""
    return wanted in NAMES or get_origin(wanted) is not None
