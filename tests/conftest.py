"""Markers and options only; fixtures are plug-ins named fix_<thing>.py."""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = [
    "fix_archive",
    "fix_broker",
    "fix_dropped",
    "fix_handover",
    "fix_house",
    "fix_lane",
    "fix_register",
    "fix_registry",
    "fix_rollups",
    "fix_servers",
    "fix_stack",
    "fix_tls",
    "fix_topics",
    "fix_town",
]

# How full the disk of this machine is must not be an incident among those of a test.
QUIET_DISKS = {f"SIZAO_WATCH_DISKS__{tier}_PERCENT": "100" for tier in ("EARLY", "ALARM")}
os.environ |= QUIET_DISKS

# On a fresh clone the first text drawn builds hypothesis's tables of Unicode for seconds, and a
# shared core is slow at any time: neither is a fault of the code. A failure says how to repeat it.
settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")
