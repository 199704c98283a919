"""The marks that a release is held against, each measured on the packs at hand.

Source: docs/packs.md, "Marks". A mark for which no pack has data is left out, not passed.
"""

from __future__ import annotations

from typing import Any

from detectors.evaluation.trial import TIERS

EARLY, ALARM, _URGENT = TIERS
REFERENCE = {EARLY: "rise 4 K", ALARM: "v1 alarm"}
GUARDED = "A1R, guarded"
ALL = "all"
LEAD_S = 15.0
STEAM_SHARE = 0.25
PHOTO_SHARE = 11 / 14
PHOTO_SAMPLING_S = 5.0
PERIODS = 2

Table = dict[str, Any]


def marks(result: Table) -> list[Table]:
    """What was wanted, what came, and whether it was reached."""
    found = [*_fires(result), *_quiet(result)]
    if result["sampling_s"] == PHOTO_SAMPLING_S:
        found += _smoke(result)
    if "stress" in result:
        found += _stress(result)
    return found


def _mark(name: str, wanted: str, got: float, *, reached: bool) -> Table:
    return {"name": name, "wanted": wanted, "got": got, "reached": reached}


def _fires(result: Table) -> list[Table]:
    fires, period_s = result["fires"], result["sampling_s"]
    every = fires.get(ALL)
    if every is None or "share_600" not in every["devices"][ALARM]:
        return []
    share = every["devices"][ALARM]["share_600"]
    lead_s = every["leads"][ALARM][GUARDED].get("mean_s", 0.0)
    behind_s = every["behind_a1r_s"][ALARM]
    found = [
        _mark("eligible devices found within 600 s, alarm tier", "1", share, reached=share == 1),
        _mark(
            f"mean lead of the alarm tier over {GUARDED}, s",
            f">= {LEAD_S:g}",
            lead_s,
            reached=lead_s >= LEAD_S,
        ),
        _mark(
            "behind A1R at most, where both find, s",
            f"<= {period_s:g}",
            behind_s,
            reached=behind_s <= period_s,
        ),
    ]
    judged = {
        pack: table for pack, table in fires.items() if table["leads"][ALARM][GUARDED]["pairs"]
    }
    for pack, table in judged.items():
        for tier, reference in REFERENCE.items():
            least = table["leads"][reference][GUARDED].get("mean_s", 0.0)
            got = table["leads"][tier][GUARDED].get("mean_s", 0.0)
            name = f"{pack}: mean lead of {tier} over {GUARDED}, s"
            found.append(_mark(name, f">= {least:.2f}", got, reached=got >= least - 0.005))
    return found


def _quiet(result: Table) -> list[Table]:
    found = []
    quiet = result["quiet"].get(ALL, {})
    for kind in ("indoor", "outdoor"):
        if kind in quiet:
            count = quiet[kind]["rules"][ALARM]["count"]
            name = f"false alarms of quiet rooms, {kind}"
            found.append(_mark(name, "0", count, reached=count == 0))
    if "faulty" in quiet:
        count = quiet["faulty"]["rules"][ALARM]["count"]
        found.append(_mark("alarms of faulty devices", "0", count, reached=count == 0))
        said = quiet["faulty"]["said_faulty"]
        devices = quiet["faulty"]["devices"]
        name = "faulty devices that get a fault"
        found.append(_mark(name, str(devices), said, reached=said == devices))
    episodes = result["nuisance"].get("episodes", 0)
    if episodes:
        count = result["nuisance"]["rules"][ALARM]
        most = int(episodes * STEAM_SHARE)
        name = f"nuisance episodes that alarm, of {episodes}"
        found.append(_mark(name, f"<= {most}", count, reached=count <= most))
    return found


def _smoke(result: Table) -> list[Table]:
    found = []
    for pack, table in result["smoke"].items():
        for tier in (EARLY, ALARM):
            line = table["rules"][tier]
            if line.get("places"):
                share = line["first_or_tied"] / line["places"]
                name = f"{pack}: {tier} first or tied with the photoelectric alarm"
                wanted = f">= {PHOTO_SHARE:.2f}"
                found.append(_mark(name, wanted, share, reached=share >= PHOTO_SHARE))
    return found


def _stress(result: Table) -> list[Table]:
    found = []
    for name, line in result["stress"]["corrupt"].items():
        count = line["raised"][ALARM]
        title = f"alarms of one corrupt reading of {name}, {line['devices']} devices"
        found.append(_mark(title, "0", count, reached=count == 0))
    most_s = PERIODS * result["sampling_s"]
    for name, tiers in result["stress"]["delay"].items():
        if ALARM in tiers:
            got_s = tiers[ALARM]["most_s"]
            reached = got_s <= most_s and not tiers[ALARM]["missed"]
            title = f"{name}: {ALARM} later by at most, s"
            found.append(_mark(title, f"<= {most_s:g}", got_s, reached=reached))
    return found
