"""What alert counts: every label value at once, so that a rate is defined from the first scrape."""

from __future__ import annotations

from enum import StrEnum

from alerting.fold import Taken
from alerting.model import Became, What
from sizao.metrics import Metrics
from sizao.signal import Kind, SignalFault, Tier

STORE_REFUSED = "store_refused"


class LedgerFault(StrEnum):
    """Why the ledger on the local disk did not serve: a closed label."""

    FULL = "full"  # its bound, or the disk
    DISK = "disk"
    LOOK = "look"  # PostgreSQL could not be looked at, and is not away


class Series:
    """The counters and gauges of signals, incidents and pages."""

    def __init__(self, metrics: Metrics) -> None:
        """Registers them."""
        self.kinds = metrics.reasons("signals", "Signals stored, by kind", "kind", Kind)
        self.tiers = metrics.reasons("signals_by_tier", "Signals stored, by tier", "tier", Tier)
        self.became = metrics.reasons("signals_became", "What stored signals did", "became", Became)
        self.bad = metrics.reasons(
            "bad_records", "Records skipped", "reason", [*SignalFault, STORE_REFUSED]
        )
        self.bare = metrics.counter("stored_bare", "Signals stored without their evidence")
        self.whats = metrics.reasons("transitions", "Transitions by signals", "what", What)
        self.unrouted = metrics.counter("unrouted", "Real fires in alarm that reached nobody")
        self.left_out = metrics.counter(
            "recipients_left_out", "Responders beyond the bound of one transition"
        )
        self.outbox = metrics.gauge("outbox_records", "Transitions waiting for Kafka")
        self.due = metrics.gauge("messages_due", "Pages without an end yet")
        self.oldest = metrics.gauge("oldest_undelivered_seconds", "Age of the oldest due page")
        self.away = metrics.gauge("database_away", "1 while the ledger on the local disk decides")
        self.ledger_waiting = metrics.gauge(
            "ledger_waiting", "Signals decided in the ledger and not merged yet"
        )
        self.ledger_bytes = metrics.gauge("ledger_bytes", "Size of the ledger")
        self.ledger_taken = metrics.counter("ledger_taken", "Signals decided in the ledger")
        self.ledger_refused = metrics.counter(
            "ledger_refused", "Signals of the ledger that the database never takes"
        )
        self.ledger_faults = metrics.reasons(
            "ledger_faults", "Calls of the ledger that failed", "reason", LedgerFault
        )

    def took(self, taken: Taken) -> None:
        """Count what a batch did, once it is committed."""
        for one in taken.recorded:
            self.kinds.add(one.signal.kind)
            self.tiers.add(one.signal.tier)
            self.became.add(one.became)
        for transition in taken.transitions:
            self.whats.add(transition.what)
        self.unrouted.inc(taken.followed.unrouted)
        self.left_out.inc(taken.followed.left_out)
