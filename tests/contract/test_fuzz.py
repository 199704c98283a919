"""Noise at every decoder, guided by coverage: 10 s here, a minute with SIZAO_LONG=1."""

import os
import re
import subprocess
import sys
from pathlib import Path

HARNESS = Path(__file__).parents[1] / "fuzz_decode.py"
SECONDS = 60 if os.environ.get("SIZAO_LONG") else 10
RUNS_MIN = 1_000  # a fuzzer that does not get so far in ten seconds has looked at nothing


def test_no_payload_makes_a_decoder_raise(tmp_path):
    done = subprocess.run(
        [sys.executable, HARNESS, tmp_path / "corpus", f"-max_total_time={SECONDS}"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = re.search(r"Done (\d+) runs", done.stderr)
    assert found, done.stderr[-2000:]
    assert int(found[1]) >= RUNS_MIN
