"""The console's routes. People's actions go through `alerting.store`, like everything else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl

import jinja2
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alerting import store
from alerting.console import guard, queries
from alerting.console.faces import evidence, face
from alerting.console.words import WORDS, age, lines
from alerting.console.words import clock as clock_words
from alerting.fold import Compose
from alerting.model import (
    ACTION_CHARS_MAX,
    ACTOR_CHARS_MAX,
    CAUSE_CHARS_MAX,
    DEVICES_MAX,
    Action,
    Conflict,
    Incident,
    Nature,
    NotAllowed,
    State,
    Verdict,
    What,
)
from sizao import clock
from sizao.db import Connection, Pool, translated
from sizao.errors import BadInput, Retriable
from sizao.registry.model import View
from sizao.signal import Kind, Tier

ACTIONS = {"acknowledge": What.ACKNOWLEDGED, "verdict": What.VERDICT, "close": What.CLOSED}
CLOSED_SHOWN = 10
_FORM_FIELDS_MAX = 16
_MEANWHILE = "alarms are sent all the same, press again when it is back"


Word = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # PostgreSQL's text holds anything else
Device = Annotated[int, Field(ge=1, lt=1 << 31)]


class Order(BaseModel):
    """What a person asks for. `action` is an id made at the button: the same one again is the same
    act. `expected_version` is the version that the person saw.
    """

    model_config = ConfigDict(extra="forbid")

    action: Word = Field(min_length=1, max_length=ACTION_CHARS_MAX)
    expected_version: int = Field(ge=1)
    actor: Word = Field(default="", max_length=ACTOR_CHARS_MAX)
    verdict: Verdict | None = None
    cause: str = Field(default="", max_length=CAUSE_CHARS_MAX)
    devices: list[Device] = Field(default_factory=list, max_length=DEVICES_MAX)


class Console:
    """What the routes need. `view` may change between requests."""

    def __init__(
        self,
        *,
        pool: Pool,
        view: Callable[[], View],
        compose: Compose,
        actor: str,
        utc_offset_min: int,
    ) -> None:
        """`actor`: in whose name, where the request says nobody (log-in comes later)."""
        self._utc_offset_min = utc_offset_min
        self.pool = pool
        self.view = view
        self.compose = compose
        self.actor = actor
        self.template = jinja2.Environment(
            loader=jinja2.PackageLoader("alerting.console", "."),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ).get_template("page.html")

    async def listing(
        self, connection: Connection, filters: dict[str, str | int], *, closed: bool = False
    ) -> list[dict[str, Any]]:
        """Incidents with their names."""
        found = await queries.listing(connection, filters, closed=closed)
        return await self._faces(connection, found)

    async def _faces(self, connection: Connection, found: list[Incident]) -> list[dict[str, Any]]:
        known = await queries.members(connection, [one.id for one in found])
        decided = await queries.deciding(connection, found)
        why = {name: evidence(one["rule"], one["evidence"]) for name, one in decided.items()}
        view = self.view()
        return [face(view, one, known.get(one.id, []), why.get(one.deciding)) for one in found]

    async def detail(self, connection: Connection, wanted: str) -> dict[str, Any] | None:
        """Everything about one incident."""
        found = await queries.incident(connection, wanted)
        if found is None:
            return None
        (shown,) = await self._faces(connection, [found])
        return {
            **shown,
            "timeline": await queries.timeline(connection, [wanted]),
            "signals": await queries.signals(connection, wanted),
            "messages": await queries.messages(connection, [wanted]),
        }

    async def act(self, wanted: str, what: What, order: Order) -> tuple[int, dict[str, Any]]:
        """Status and answer of an action."""
        action = Action(
            id=order.action,
            actor=order.actor or self.actor,
            what=what,
            expected_version=order.expected_version,
            verdict=order.verdict,
            cause=order.cause.replace("\0", " "),
            devices=tuple(order.devices),
        )
        with translated():
            async with self.pool.connection() as connection:
                if await queries.incident(connection, wanted) is None:
                    return 404, {"error": "unknown", "reason": f"no incident {wanted[:64]}"}
                try:
                    await store.act(connection, wanted, action, clock.now_us(), self.compose)
                except Conflict as error:
                    since = await queries.timeline(connection, [wanted], order.expected_version)
                    now = await self.detail(connection, wanted)
                    return 409, {
                        "error": "conflict",
                        "reason": str(error),
                        "since": since,
                        "incident": now,
                    }
                except NotAllowed as error:
                    return 409, {"error": "not_allowed", "reason": str(error)}
                return 200, await self.detail(connection, wanted) or {}

    async def page(self, nonce: str, said: str = "") -> str:
        """The whole page; `said` is what went wrong with the last press."""
        with translated():
            async with self.pool.connection() as connection:
                shown = await self.listing(connection, {})
                closed = (await self.listing(connection, {}, closed=True))[:CLOSED_SHOWN]
                ids = [one["id"] for one in shown]
                history = await queries.timeline(connection, ids, each=queries.LINES_EACH)
                pages = await queries.messages(connection, ids, each=queries.LINES_EACH)
                counts = await queries.count_open(connection)
        for one in shown:
            one["lines"] = lines(one, history, pages)
        return self.render(nonce, said, shown, closed, counts=counts)

    def render(
        self,
        nonce: str,
        said: str,
        shown: Sequence[dict[str, Any]] = (),
        closed: Sequence[dict[str, Any]] = (),
        *,
        counts: dict[str, int] | None = None,
    ) -> str:
        """The page's HTML. Each button gets an action id of its own. Without `counts`, whether
        there is any incident cannot be said.
        """
        return self.template.render(
            incidents=shown,
            closed=closed,
            words=WORDS,
            verdicts=list(Verdict),
            now_ms=clock.now_us() // 1000,
            utc_offset_min=self._utc_offset_min,
            clock=lambda ms: clock_words(ms, self._utc_offset_min),
            age=age,
            nonce=nonce,
            said=said,
            known=counts is not None,
            counts=counts or {},
            new_action=lambda: secrets.token_hex(16),
        )


def _order(kind: str, body: bytes) -> Order:
    """Raises BadInput with one line per fault."""
    try:
        if kind.startswith(guard.FORM):
            pairs = parse_qsl(body.decode(), max_num_fields=_FORM_FIELDS_MAX)
            return Order.model_validate({name: text for name, text in pairs if text})
        return Order.model_validate(json.loads(body))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        texts = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in faults]
        raise BadInput("; ".join(texts)) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body cannot be read: {error}") from error


def make(console: Console) -> FastAPI:
    """The application, without its guard."""
    app = FastAPI(title="Sizao console", docs_url=None, redoc_url=None, openapi_url="/api/openapi")

    @app.exception_handler(Retriable)
    async def away(_: Request, error: Exception) -> Response:
        reason = f"the database is away, nothing was changed; {_MEANWHILE}: {error}"
        return JSONResponse({"error": "away", "reason": reason}, 503)

    _add_reading(app, console)
    _add_acting(app, console)
    _add_page(app, console)
    return app


def _add_reading(app: FastAPI, console: Console) -> None:
    @app.get("/api/incidents")
    async def incidents(
        kind: Kind | None = None,
        nature: Nature | None = None,
        tier: Tier | None = None,
        state: State | None = None,
        site: Annotated[int | None, Query(ge=0, lt=1 << 31)] = None,
    ) -> dict[str, Any]:
        given = {"kind": kind, "nature": nature, "tier": tier, "state": state, "site": site}
        filters: dict[str, str | int] = {
            name: word for name, word in given.items() if word is not None
        }
        with translated():
            async with console.pool.connection() as connection:
                found = await console.listing(connection, filters, closed=state is State.CLOSED)
        return {"now_us": clock.now_us(), "incidents": found}

    @app.get("/api/incidents/{wanted}")
    async def incident(wanted: str) -> Response:
        with translated():
            async with console.pool.connection() as connection:
                found = await console.detail(connection, wanted.replace("\0", ""))
        if found is None:
            return JSONResponse({"error": "unknown", "reason": "no such incident"}, 404)
        return JSONResponse(found)


def _add_acting(app: FastAPI, console: Console) -> None:
    @app.post("/api/incidents/{wanted}/{verb}")
    async def act(request: Request, wanted: str, verb: str) -> Response:
        kind = request.headers.get("content-type", "").lower()
        form = kind.startswith(guard.FORM)
        if verb not in ACTIONS:
            return JSONResponse({"error": "unknown", "reason": f"one of {sorted(ACTIONS)}"}, 404)
        try:
            order = _order(kind, await request.body())
            status, answer = await console.act(wanted.replace("\0", ""), ACTIONS[verb], order)
        except BadInput as error:
            status, answer = 422, {"error": "bad_input", "reason": str(error)}
        if not form:
            return JSONResponse(answer, status)
        if status == 200:  # noqa: PLR2004 - HTTP
            return RedirectResponse("/", 303)
        page = await console.page(request.state.nonce, str(answer["reason"]))
        return HTMLResponse(page, status)


def _add_page(app: FastAPI, console: Console) -> None:
    @app.get("/")
    async def page(request: Request) -> Response:
        try:
            return HTMLResponse(await console.page(request.state.nonce))
        except Retriable as error:
            said = (
                f"数据库不可用,无法操作;报警照常发送。 The database is away; {_MEANWHILE}: {error}"
            )
            text = console.render(request.state.nonce, said)
            return HTMLResponse(text, 503)
