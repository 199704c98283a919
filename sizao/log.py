"""Structured logs: one JSON object a line on standard error, or colours at a terminal.

Logs tell transitions (down once, up once, for how long); counters tell the rest. JSON escapes
control characters, so a payload cannot forge a line.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import TextIO

import structlog

from sizao import clock

Logger = structlog.typing.FilteringBoundLogger

_QUIET_S = 10.0
_STRINGS_MAX = 500


class _Limit(logging.Filter):
    """At most one line per logger and 10 s from chatty libraries; says how many it held back.

    aiokafka writes 180 error lines a second while its broker is away.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next_s: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now_s = clock.monotonic_s()
        if now_s < self._next_s.get(record.name, 0.0):
            self._held[record.name] = self._held.get(record.name, 0) + 1
            return False
        self._next_s[record.name] = now_s + _QUIET_S
        held = self._held.pop(record.name, 0)
        if held:
            record.msg = f"{record.getMessage()} [{held} more held back]"
            record.args = ()
        return True


def _shorten(
    _logger: object, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    for key, item in event.items():
        if isinstance(item, str) and len(item) > _STRINGS_MAX:
            event[key] = item[:_STRINGS_MAX] + "..."
    return event


def setup(process: str, stream: TextIO | None = None) -> Logger:
    """Configure logging of this process, once, and return its logger."""
    out = sys.stderr if stream is None else stream
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if out.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _shorten,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    )
    handler.addFilter(_Limit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger: Logger = structlog.get_logger(process=process)
    return logger
