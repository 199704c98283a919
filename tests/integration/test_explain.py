"""`sizao explain` and `sizao backtest` against a recorded fire in a real PostgreSQL."""

import asyncio
import json

import pytest
from fix_archived import connection, settings, town  # noqa: F401 - fixtures
from typer.testing import CliRunner

from detectors.commands import app
from sizao.errors import BadInput


async def run(*words, code=0):
    done = await asyncio.to_thread(CliRunner().invoke, app, list(words))
    if isinstance(done.exception, BadInput):
        raise done.exception
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


async def explained(town, signal, *words, code=0):
    text = await run("explain", signal, "--config", town.config, "--json", *words, code=code)
    return json.loads(text)


async def test_every_signal_comes_out_of_the_archive_again_bit_for_bit(town):
    print(len(town.said), [(s.rule, s.tier, s.phase, s.subject.id) for s in town.said])
    for said in town.said:
        told = await explained(town, said.id)
        assert told["recomputed"]["verdict"] == "equal", (said, told)
    print(await run("explain", town.raises()[0].onset, "--config", town.config))
