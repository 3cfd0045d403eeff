# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The text that ``ip xfrm`` prints, word by word, with errors that say where."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import Address

Value = TypeVar("Value")


class XfrmError(InputError):
    """Text that ``ip xfrm`` does not print; the message names file, line and what was expected."""


@dataclass
class Line:
    """A line's words, taken from left to right."""

    file: str
    number: int
    words: list[str]
    indent: int
    at: int = 0

    def error(self, expected: str, found: object = None) -> XfrmError:
        shown = "nothing" if found is None else repr(found)
        return XfrmError(f"{self.file}, line {self.number}: expected {expected}, not {shown}")

    def peek(self) -> str | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def take(self, expected: str) -> str:
        word = self.peek()
        if word is None:
            raise self.error(expected)
        self.at += 1
        return word

    def word(self, *expected: str) -> str:
        """The next word, which must be one of ``expected``."""
        word = self.take(" or ".join(expected))
        if word not in expected:
            raise self.error(" or ".join(expected), word)
        return word

    def parse(self, expected: str, convert: Callable[[str], Value]) -> Value:
        word = self.take(expected)
        try:
            return convert(word)
        except (ValueError, KeyError):
            raise self.error(expected, hide(word)) from None

    def number_of(self, what: str) -> int:
        """A number, decimal or after 0x, with what ``ip -s`` puts in brackets behind it left out."""
        return self.parse(f"a number for {what}", lambda word: int(word.split("(")[0].rstrip(","), 0))

    def address(self, what: str) -> Address:
        return self.parse(f"an address for {what}", ip_address)

    def key(self, what: str) -> bytes:
        """A key in hexadecimal, and its length as ``ip -s`` prints it."""
        key = self.parse(f"the key of {what}, 0x and hexadecimal digits", _hexadecimal)
        if (self.peek() or "").startswith("("):
            bits = self.parse("the key's length, such as (128", lambda word: int(word[1:]))
            self.word("bits)")
            if bits != 8 * len(key):
                raise self.error(f"a key of {bits} bits for {what}", f"{8 * len(key)} bits")
        return key


def _hexadecimal(word: str) -> bytes:
    if not word.startswith("0x"):
        raise ValueError(word)
    return bytes.fromhex(word[2:])


def hide(word: str) -> str:
    """A word as an error may show it: keys do not appear in messages."""
    return f"{word[:6]}... ({len(word)} characters)" if len(word) > 24 else word


def entries(text: str, file: str) -> Iterator[list[Line]]:
    """The lines of one entry after the other; an entry begins with a line ``src``, not indented."""
    lines: list[Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        parsed = Line(file, number, words, len(line) - len(line.lstrip()))
        if not parsed.indent:
            if words[0] != "src":
                raise parsed.error("an entry that begins with src", hide(words[0]))
            if lines:
                yield lines
            lines = []
        elif not lines:
            raise parsed.error("an entry that begins with src at the beginning of a line", hide(words[0]))
        lines.append(parsed)
    if lines:
        yield lines


def read(path: Path) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        raise XfrmError(f"{path}: expected the output of ip xfrm, but there is no such file") from None
    except UnicodeDecodeError as error:
        raise XfrmError(f"{path}: expected text: {error}") from None
    except OSError as error:
        raise XfrmError(f"{path}: expected a file that can be read: {error.strerror}") from None
