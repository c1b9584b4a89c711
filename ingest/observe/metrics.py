"""The figures of a service, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Snapshot(NamedTuple):
    """The figures of one moment. Counters run from the start of the process."""

    lag: Mapping[int, int]
    """By partition: messages that are not recorded yet."""
    in_flight: int
    paused: bool
    """The circuit to the verification service is open."""
    counters: Mapping[str, int]
    """By the name of what was counted."""


_HELP = {
    "messages": "Messages read from the topic.",
    "foreign": "Parts of messages about other buckets, passed over.",
    "downloaded": "Objects downloaded and recorded.",
    "downloaded_bytes": "Bytes downloaded.",
    "failed": "Downloads that failed.",
    "gone": "Objects marked as gone.",
    "waiting": "Messages put to wait for their object.",
    "dead_letters": "Messages given up.",
    "lost": "Messages that the broker removed before they were read.",
    "delivered": "Copies taken by the verification service.",
    "rejected": "Copies rejected by the verification service.",
    "undeliverable": "Deliveries given up.",
}

COUNTERS = tuple(_HELP)


def render(snapshot: Snapshot) -> bytes:
    """The exposition of a snapshot.

    Raises:
        ImportError: prometheus-client is not installed.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

    class Figures:
        def collect(self) -> Iterator[Metric]:
            lag = GaugeMetricFamily("ingest_lag_messages", "Messages that are not recorded yet.", labels=["partition"])
            for partition, behind in snapshot.lag.items():
                lag.add_metric([str(partition)], behind)
            yield lag
            yield GaugeMetricFamily("ingest_in_flight_messages", "Messages under way.", snapshot.in_flight)
            yield GaugeMetricFamily(
                "ingest_delivery_paused", "1 while the verification service is left alone.", int(snapshot.paused)
            )
            for name, count in snapshot.counters.items():
                yield CounterMetricFamily(f"ingest_{name}", _HELP[name], count)

    registry = CollectorRegistry(auto_describe=False)
    collector: Any = Figures()
    registry.register(collector)
    return generate_latest(registry)
