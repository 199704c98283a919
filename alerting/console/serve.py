"""The process `sizao console`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from pydantic import BaseModel, ConfigDict, Field

from alerting.compose import Composer
from alerting.console.app import Console, make
from alerting.console.guard import Guard, loopback
from alerting.model import ACTOR_CHARS_MAX
from alerting.responders import EMPTY
from sizao import db
from sizao.db import DatabaseSettings
from sizao.errors import BadInput
from sizao.registry.source import Source
from sizao.service import Service
from sizao.settings import HttpSettings

_ANSWER_S = 5.0  # a half-open database is told to whoever waits, instead of nothing
_POOL_SIZE = 4
_CONNECTIONS_MAX = 64


class ConsoleSettings(BaseModel):
    """Section `console`."""

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes a free one and logs it")
    http: HttpSettings = HttpSettings()
    actor: str = Field(default="console", min_length=1, max_length=ACTOR_CHARS_MAX)
    utc_offset_min: int = Field(default=480, ge=-720, le=840)


class Settings(BaseModel):
    """What `sizao console` needs of the settings file."""

    model_config = ConfigDict(extra="forbid")

    database: DatabaseSettings = DatabaseSettings()
    console: ConsoleSettings = ConsoleSettings()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's."""
        yield


def _bind(settings: ConsoleSettings) -> socket.socket:
    host = loopback(settings.host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, settings.port), family=family)
    except OSError as error:
        raise BadInput(f"console: port {host}:{settings.port}: {error}; set another") from error


async def run(service: Service, settings: Settings, state: Path) -> None:
    """Serve until cancelled. The page comes up with the database away, and says so."""
    service.needs("page")
    with _bind(settings.console) as listening:
        port = int(listening.getsockname()[1])
        pool = db.pool(settings.database, service.name, size_max=_POOL_SIZE, answer_s=_ANSWER_S)
        source = Source(service, settings.database, state)
        compose = Composer(
            view=lambda: source.current.newest,
            directory=lambda: EMPTY,  # a person's action pages nobody yet
            renderers={},
            utc_offset_min=settings.console.utc_offset_min,
        )
        console = Console(
            pool=pool,
            view=lambda: source.current.newest,
            compose=compose,
            actor=settings.console.actor,
            utc_offset_min=settings.console.utc_offset_min,
        )
        server = _Server(
            uvicorn.Config(
                Guard(make(console), port),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS_MAX,
            )
        )
        await source.open()
        await pool.open(wait=False)
        service.ready["page"] = True
        service.facts["page"] = f"http://{settings.console.host}:{port}/"
        service.logger.info("page", page=service.facts["page"])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(source.follow(), name="registry")
                await server.serve(sockets=[listening])
        finally:
            await pool.close()
