# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Structured logs: one line a record, ``key=value`` or JSON. What is logged has names, never keys.

Much of what is logged is what others say. So a line has a longest length, and each kind of record a rate;
what is more is counted, and told of as ``left-out``.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

LOG = logging.getLogger("spigate")
MAX_LINE = 4096
"""Bytes of a line, its end among them."""
PERIOD_SECONDS = 10.0
PER_NAME, PER_KIND = 20, 200
"""Lines of one kind in a period: about one peer, or one child of it, and in all."""
LEFT_OUT = "left-out"
_LENGTHS = (1000, 200, 50, 10)
"""Characters of a value, as many as a line has room for."""


def log(level: int, event: str, **values: object) -> None:
    """One record: what happened, and with what; empty values are left out."""
    LOG.log(
        level,
        event,
        extra={"values": {name: value for name, value in values.items() if value not in (None, "")}},
    )


class _Formatter(logging.Formatter):
    def _pairs(self, record: logging.LogRecord) -> dict[str, object]:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        pairs = {
            "time": when,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "values", {}),
        }
        if record.exc_info:
            pairs["exception"] = self.formatException(record.exc_info)
        return pairs

    def _line(self, pairs: dict[str, object]) -> str:
        raise NotImplementedError

    def format(self, record: logging.LogRecord) -> str:
        pairs = self._pairs(record)
        for length in _LENGTHS:
            line = self._line({name: _cut(name, value, length) for name, value in pairs.items()})
            if len(line) < MAX_LINE:
                return line
        return line[: MAX_LINE - 1]


class JsonFormatter(_Formatter):
    """An object a line."""

    def _line(self, pairs: dict[str, object]) -> str:
        return json.dumps(pairs, default=str)


class TextFormatter(_Formatter):
    """``key=value``; values with blanks, quotes or control characters as JSON strings."""

    def _line(self, pairs: dict[str, object]) -> str:
        return " ".join(f"{name}={_word(str(value))}" for name, value in pairs.items())


def _cut(name: str, value: object, length: int) -> object:
    """A value that is no longer than ``length`` and a few dots. Of an exception the end is kept: there it
    says where it was.
    """
    if isinstance(value, bool | int | float) or len(text := str(value)) <= length:
        return value
    return f"... {text[-2 * length :]}" if name == "exception" else f"{text[:length]} ..."


def _word(text: str) -> str:
    plain = text and text.isascii() and text.isprintable() and not set(text) & set(' "=')
    return text if plain else json.dumps(text)


class Rates:
    """How often what is logged.

    Parameters
    ----------
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._end = 0.0
        self._told: Counter[tuple[str, str]] = Counter()
        self._left_out: Counter[str] = Counter()

    def admits(self, kind: str, name: str) -> bool:
        """Whether one more record of ``kind`` about ``name`` may be logged."""
        about, limits = ((kind, ""), (kind, f"about {name}")), (PER_KIND, PER_NAME)
        if all(self._told[each] < limit for each, limit in zip(about, limits, strict=True)):
            self._told.update(about)
            return True
        self._left_out[kind] += 1
        return False

    def left_out(self, *, now: bool = False) -> dict[str, int]:
        """What was not admitted in the last period, by kind, once that is over, or ``now``; a new one
        begins.
        """
        if not now and self._clock() < self._end:
            return {}
        self._end = self._clock() + PERIOD_SECONDS
        left_out, self._left_out = self._left_out, Counter()
        self._told.clear()
        return left_out


class _Handler(logging.StreamHandler[TextIO]):
    def __init__(self, rates: Rates):
        super().__init__()
        self._rates = rates

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(self._rates.left_out())
        values = getattr(record, "values", {})
        if self._rates.admits(
            record.getMessage(), "{}/{}".format(*(values.get(name, "") for name in ("peer", "child")))
        ):
            super().emit(record)

    def close(self) -> None:
        self._tell(self._rates.left_out(now=True))
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """Standard error is gone, or full: there is nobody to tell, and logging's own traceback has no
        bound.
        """

    def _tell(self, left_out: dict[str, int]) -> None:
        for kind, count in left_out.items():
            record = LOG.makeRecord(
                LOG.name,
                logging.WARNING,
                "",
                0,
                LEFT_OUT,
                (),
                None,
                extra={"values": {"kind": kind, "count": count}},
            )
            super().emit(record)


def set_up(form: str, level: str, rates: Rates | None = None) -> None:
    """Logs to standard error, in ``text`` or ``json``."""
    handler = _Handler(rates or Rates())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    LOG.handlers[:] = [handler]
    LOG.setLevel(level)
    LOG.propagate = False
