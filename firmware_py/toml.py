# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""TOML, read strictly: every mistake is answered with file, key and what was expected."""

import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import EllipsisType
from typing import Any, ParamSpec, TypeVar, overload

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.words import nearest

Value = TypeVar("Value")
Member = TypeVar("Member", bound=Enum)
Fields = ParamSpec("Fields")

LARGEST = (1 << 63) - 1
"""TOML's largest integer."""


class ConfigError(InputError):
    """A configuration that is not what it must be; the message names file, key and what was expected."""


def load(text: str, file: str) -> "Table":
    """The table that ``text`` is. Raises ConfigError where it is not TOML."""
    try:
        return Table(file, "", tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: expected TOML: {error}") from None


def read(path: Path) -> str:
    """The text of the file ``path``. Raises ConfigError where there is none, or it cannot be read, or it is
    not UTF-8.
    """
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected a TOML file, but there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: expected a TOML file that can be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8: {error}") from None


class Table:
    """A TOML table whose keys are taken one by one; what is left over at the end is unknown."""

    def __init__(self, file: str, path: str, values: Mapping[str, object]):
        self._file, self._path, self._values = file, path, dict(values)
        self._known: list[str] = []

    def error(self, key: str, expected: str, found: object = None) -> ConfigError:
        where = f"{self._path}.{key}".strip(".")
        shown = "nothing" if found is None else repr(found)
        return ConfigError(f"{self._file}, key {where}: expected {expected}, not {shown}")

    def has(self, key: str) -> bool:
        return key in self._values

    def take(
        self, key: str, expected: str, convert: Callable[[object], Value], default: Value | EllipsisType = ...
    ) -> Value:
        self._known.append(key)
        if key not in self._values:
            if isinstance(default, EllipsisType):
                raise self.error(key, expected)
            return default
        value = self._values.pop(key)
        try:
            return convert(value)
        except UnknownWord as error:
            near = f"; the nearest is {error.near!r}" if error.near else ""
            raise ConfigError(f"{self.error(key, expected, value)}{near}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self.error(key, expected, value) from None

    @overload
    def number(self, key: str, low: int, high: int, default: int | EllipsisType = ...) -> int: ...

    @overload
    def number(self, key: str, low: int, high: int, default: None) -> int | None: ...

    def number(self, key: str, low: int, high: int, default: int | EllipsisType | None = ...) -> int | None:
        return self.take(key, f"a number, {low} to {high}", integer(low, high), default)

    def flag(self, key: str, default: bool) -> bool:
        return self.take(key, "true or false", boolean, default)

    def choice(self, key: str, options: Iterable[Member], default: Member | EllipsisType = ...) -> Member:
        names = {
            option.name.lower() if isinstance(option, IntEnum) else option.value: option for option in options
        }
        return self.take(key, " or ".join(names), one_of(names), default)

    @overload
    def address(self, key: str) -> IPv4Address | IPv6Address: ...

    @overload
    def address(self, key: str, default: None) -> IPv4Address | IPv6Address | None: ...

    def address(self, key: str, default: EllipsisType | None = ...) -> IPv4Address | IPv6Address | None:
        return self.take(key, "an IP address", lambda value: ip_address(string(value)), default)

    def secret(self, key: str) -> bytes:
        """Bytes in hexadecimal, which errors do not show."""
        self._known.append(key)
        value = self._values.pop(key, "")
        try:
            return bytes.fromhex(string(value))
        except ValueError:
            raise self.error(key, "hexadecimal digits, two a byte", "what stands there") from None

    def table(self, key: str, default: dict[str, object] | EllipsisType = ...) -> "Table":
        return self.inner(key, self.take(key, "a table", dictionary, default))

    def tables(self, key: str) -> list["Table"]:
        return self.inners(key, self.take(key, f"tables, [[{key}]]", list_of(dictionary), []))

    def inner(self, key: str, values: Mapping[str, object]) -> "Table":
        """The table that ``key`` was."""
        return Table(self._file, f"{self._path}.{key}".strip("."), values)

    def inners(self, key: str, values: Iterable[Mapping[str, object]]) -> list["Table"]:
        """The tables that ``key`` was a list of."""
        return [
            Table(self._file, f"{self._path}.{key}[{at}]".strip("."), value)
            for at, value in enumerate(values)
        ]

    def all(self) -> list[tuple[str, "Table"]]:
        """All that is inside, tables with names of their own."""
        return [(name, self.table(name)) for name in list(self._values)]

    def guard(self, key: str, make: Callable[[], Value]) -> Value:
        """``make()``; what it refuses is named by ``key``."""
        try:
            return make()
        except ConfigError:
            raise
        except InputError as error:
            where = f"{self._path}.{key}".strip(".")
            raise ConfigError(f"{self._file}, key {where}: {error}") from None

    def done(self) -> None:
        """Refuses keys that were not asked for."""
        self.only(())

    def only(self, names: Collection[str]) -> None:
        """Refuses keys that are not of ``names`` and were not asked for; the error names the nearest of
        those that there are, or all of them.
        """
        known = list(dict.fromkeys([*self._known, *names]))
        for key in self._values:
            if key not in names:
                where = f"{self._path}.{key}".strip(".")
                near = nearest(key, known)
                hint = f"the nearest known one is {near}" if near else f"known here are {', '.join(known)}"
                raise ConfigError(f"{self._file}, key {where}: unknown key; {hint}")

    def build(self, make: Callable[Fields, Value], *values: Fields.args, **fields: Fields.kwargs) -> Value:
        """``make(*values, **fields)``, after :meth:`done`; what it refuses is named by this table."""
        self.done()
        try:
            return make(*values, **fields)
        except InputError as error:
            raise ConfigError(f"{self._file}, key {self._path}: {error}") from None


def integer(low: int, high: int) -> Callable[[object], int]:
    def convert(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return convert


def boolean(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def string(value: object) -> str:
    if type(value) is not str:
        raise ValueError
    return value


def dictionary(value: object) -> dict[str, object]:
    if type(value) is not dict:
        raise ValueError
    return value


class UnknownWord(ValueError):
    """A word that is none of those that may stand there. ``near``: the one that it is most like."""

    def __init__(self, near: str):
        super().__init__(near)
        self.near = near


def one_of(options: Mapping[str, Value]) -> Callable[[object], Value]:
    def convert(value: object) -> Value:
        word = string(value)
        if word not in options:
            raise UnknownWord(nearest(word, options))
        return options[word]

    return convert


def list_of(convert: Callable[[object], Value]) -> Callable[[object], list[Value]]:
    def convert_all(value: object) -> list[Value]:
        if type(value) is not list:
            raise ValueError
        return [convert(item) for item in value]

    return convert_all


# Schemas: keys that are read and documented from one declaration


@dataclass(frozen=True)
class Key:
    """One key of a table.

    Members
    -------
    name : str
    expected : str
        What its value must be, in words, behind "expected".
    convert : callable
        From TOML's value; ValueError, TypeError or KeyError where it is wrong.
    text : str
        What it means, for the reference.
    default : object
        Where it is not given; ``...``: it must be given.
    shown : str
        The default in words, for the reference; otherwise it is shown as it is.
    """

    name: str
    expected: str
    convert: Callable[[object], object]
    text: str
    default: object = ...
    shown: str = ""


@dataclass(frozen=True)
class Schema:
    """The keys of one kind of table, called ``name`` in the reference."""

    name: str
    text: str
    keys: tuple[Key, ...]

    def read(self, table: Table, *others: "Schema") -> dict[str, Any]:
        """The values of all keys, each what its key's ``convert`` gives. A key that is neither of this schema
        nor of ``others``, which read the same table, is told of first: it may be what is missing. Raises
        ConfigError.
        """
        table.only([key.name for schema in (self, *others) for key in schema.keys])
        return {key.name: table.take(key.name, key.expected, key.convert, key.default) for key in self.keys}


def number(name: str, low: int, high: int, text: str, default: object = ...) -> Key:
    return Key(name, f"a number, {low} to {high}", integer(low, high), text, default)


def fraction(name: str, low: float, high: float, text: str, default: object = ...) -> Key:
    return Key(name, f"a number, {low:g} to {high:g}", _real(low, high), text, default)


def seconds(name: str, text: str, default: object = ..., *, low: float = 0.1) -> Key:
    """A duration."""
    return Key(name, f"seconds, {low:g} or more", _real(low, 1e9), text, default)


def seconds_or_never(name: str, text: str, default: object) -> Key:
    """A duration, or 0, which reads as None: never."""
    return Key(name, "seconds, or 0 for never", lambda value: _real(0, 1e9)(value) or None, text, default)


def flag(name: str, text: str, default: bool) -> Key:
    return Key(name, "true or false", boolean, text, default, "`true`" if default else "`false`")


def choice(name: str, options: Mapping[str, object], text: str, default: str) -> Key:
    return Key(name, " or ".join(options), one_of(options), text, options[default], f"`{default}`")


def _real(low: float, high: float) -> Callable[[object], float]:
    def convert(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError
        return value

    return convert
