"""The operator's log: JSON lines, or plain text for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_about: ContextVar[dict[str, str]] = ContextVar("about", default={})  # noqa: B039 - it is never changed, but replaced


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Every line that is logged meanwhile, wherever, tells what it is about; fields that are empty are left out."""
    token = _about.set(_about.get() | {name: value for name, value in fields.items() if value})
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (RFC 3339, UTC), level, logger, message and what it is about; a traceback where there is one."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(log_format: str, *, debug: bool) -> None:
    """Send everything to standard error."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else plain)
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    # kopf tells of every event that it passes on.
    logging.getLogger("kopf").setLevel(logging.INFO if debug else logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
