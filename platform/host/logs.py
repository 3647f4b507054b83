"""Logs of the platform's processes as JSON lines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

CONCERNS = ("model", "run", "version")
"""What an entry may concern, as logging's ``extra`` has it."""


class JsonLines(logging.Formatter):
    """Writes each entry as one JSON object on a line.

    Args:
        always: What every entry has.
    """

    def __init__(self, **always: Any) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what an entry does not concern is left out."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **{name: getattr(record, name) for name in CONCERNS if hasattr(record, name)},
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def write_json(**always: Any) -> None:
    """Have this process write what undrift logs as JSON lines to standard error.

    Args:
        always: What every entry has.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(**always))
    logger = logging.getLogger("undrift")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
