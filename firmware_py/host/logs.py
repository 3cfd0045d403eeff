"""Structured logs: one line a record, ``key=value`` or JSON. What is logged has names, never keys."""
import json
import logging
from datetime import UTC, datetime

LOG = logging.getLogger("spigate")


def log(level: int, event: str, **values: object) -> None:
    """One record: what happened, and with what; empty values are left out."""
    LOG.log(level, event, extra={"values": {name: value for name, value in values.items() if value not in (None, "")}})


class _Formatter(logging.Formatter):
    def _pairs(self, record: logging.LogRecord) -> dict[str, object]:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        pairs = {"time": when, "level": record.levelname.lower(), "event": record.getMessage(),
                 **getattr(record, "values", {})}
        if record.exc_info:
            pairs["exception"] = self.formatException(record.exc_info)
        return pairs


class JsonFormatter(_Formatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self._pairs(record), default=str)


class TextFormatter(_Formatter):
    """``key=value``; values with blanks, quotes or control characters as JSON strings."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{name}={_word(str(value))}" for name, value in self._pairs(record).items())


def _word(text: str) -> str:
    plain = text and text.isprintable() and not set(text) & set(" \"=")
    return text if plain else json.dumps(text)


def set_up(form: str, level: str) -> None:
    """Logs to standard error, in ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    LOG.handlers[:] = [handler]
    LOG.setLevel(level)
    LOG.propagate = False
