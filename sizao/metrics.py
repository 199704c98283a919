"""Series that a process exposes. Made at start, every label value included, so that a rate over a
counter is defined from the first scrape (style S18). Never a device as a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import make_wsgi_app

LATENCY_BUCKETS_S: Sequence[float] = (
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip


class Reasons:
    """A counter with one closed label."""

    def __init__(self, counter: Counter, values: Iterable[str]) -> None:
        """Creates every child now."""
        self._children = {str(value): counter.labels(str(value)) for value in values}

    def add(self, reason: str, count: float = 1) -> None:
        """Count; KeyError for a label outside the closed set is a programming error."""
        self._children[str(reason)].inc(count)

    def value(self, reason: str) -> float:
        """What stands there now: for tests and `/readyz`."""
        return float(self._children[str(reason)]._value.get())  # noqa: SLF001 - no public reader


class Metrics:
    """All series of one process, in a registry of its own (no process-wide default)."""

    def __init__(self, process: str) -> None:
        """Names begin with `sizao_<process>_`."""
        self.registry = CollectorRegistry(auto_describe=True)
        self._prefix = f"sizao_{process}_"

    def counter(self, name: str, text: str) -> Counter:
        """A plain counter; `name` without prefix and `_total`."""
        return Counter(self._prefix + name, text, registry=self.registry)

    def reasons(self, name: str, text: str, label: str, values: Iterable[str]) -> Reasons:
        """A counter with one closed label."""
        counter = Counter(self._prefix + name, text, [label], registry=self.registry)
        return Reasons(counter, values)

    def gauge(self, name: str, text: str) -> Gauge:
        """A gauge; `name` ends with its unit."""
        return Gauge(self._prefix + name, text, registry=self.registry)

    def gauges(self, name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Gauge]:
        """A gauge for each value of one closed label; `name` ends with its unit."""
        gauge = Gauge(self._prefix + name, text, [label], registry=self.registry)
        return {value: gauge.labels(value) for value in values}

    def seconds(self, name: str, text: str) -> Histogram:
        """A latency histogram; `name` ends with `_seconds`."""
        return Histogram(
            self._prefix + name, text, registry=self.registry, buckets=LATENCY_BUCKETS_S
        )

    def wsgi(self):  # type: ignore[no-untyped-def] # noqa: ANN201 - prometheus_client's own type
        """The `/metrics` page."""
        return make_wsgi_app(self.registry)
