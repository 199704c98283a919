"""Random faults under 2,000 messages/s: nothing acknowledged is lost or doubled, alarms come first.

Ten faults in `make test`, fifty in `make chaos` (SIZAO_LONG=1); SIZAO_SEED=17 draws others. A
summary of each run lies in build/chaos/.
"""

import faulthandler
import json
import os
import secrets
import sys
from pathlib import Path

import pytest
from chaos.house import WiredStack
from chaos.run import Run
from fix_stack import forget_sessions

FAULTS, FAULTS_LONG = 10, 50


@pytest.fixture
def stack(servers, clean_topics):
    forget_sessions(servers.mosquitto)
    name = secrets.token_hex(6)
    made = WiredStack(servers, Path(servers.folder) / f"stack-{name}", database_name=f"t_{name}")
    made.configure()
    made.command("migrate")
    yield made
    servers.mend()
    made.stop()
    for process in made.processes.values():  # shown by pytest when the test has failed
        sys.stdout.write(f"--- {process.name}\n{process.child.tail()}\n")
    servers.postgres.drop_database(made.database_name)


def test_random_faults(stack, capsys):
    faulthandler.cancel_dump_traceback_later()  # of pytest: the long run takes ten minutes
    seed = int(os.environ.get("SIZAO_SEED", "1"))
    run = Run(stack, seed, FAULTS_LONG if os.environ.get("SIZAO_LONG") else FAULTS)
    run.carry_out()
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(run.summary, indent=1, ensure_ascii=False)}\n")
    assert not run.wrong, run.verdict()
