"""Log lines that say which run or video they are about: as text, or as one JSON object a line."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from backend.settings import LogSettings

_fields: ContextVar[dict[str, object]] = ContextVar("premask_log_fields", default={})  # noqa: B039 (never changed in place)


@contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Every line logged inside, in this thread, carries the fields."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


class _TextFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {name}={value}" for name, value in _fields.get().items())
        return f"{time} {record.levelname:<7} {record.name}:{fields} {record.message}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_fields.get(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(settings: LogSettings) -> None:
    """Send the process's log to stderr in the settings' form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.json_lines else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    if settings.level != "DEBUG":
        # Lines about the schedule and every HTTP request, beside which nothing else could be read; tasks speak for
        # themselves.
        for name in ("celery.beat", "celery.worker.strategy", "celery.app.trace", "httpx"):
            logging.getLogger(name).setLevel(logging.WARNING)
