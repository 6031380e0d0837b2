"""What the mailbox tells Prometheus.

Owns the names of the metrics. Does not own the listener (see `fedparty.rpc.operations`).
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fedparty.federation.mailbox import Mailbox


class MailboxMetrics(Collector):
    """Counts what passes, and reads off the mailbox what it holds.

    Parameters
    ----------
    mailbox
        Whose state is read at each scrape.
    registry
        Where the metrics appear.
    """

    def __init__(self, mailbox: Mailbox, registry: CollectorRegistry) -> None:
        self._mailbox = mailbox
        self.delivered_bytes = Counter(
            "fedparty_mailbox_delivered_bytes", "Bytes of objects stored for this party's members", registry=registry
        )
        self.delivered = Counter("fedparty_mailbox_delivered_objects", "Objects stored", registry=registry)
        self.received_bytes = Counter(
            "fedparty_mailbox_received_bytes", "Bytes of objects read by this party's members", registry=registry
        )
        self.refused = Counter(
            "fedparty_mailbox_refused", "Deliveries that failed, by code", ["code"], registry=registry
        )
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        now = self._mailbox.statistics()
        yield _gauge("used_bytes", "Bytes of the spool in use", now.used_bytes)
        yield _gauge("quota_bytes", "Bytes the spool may use", now.quota_bytes)
        yield _gauge("objects", "Objects in the spool", now.objects)
        yield _gauge("tasks", "Registered task attempts", now.tasks)
        yield _gauge("waiting_receives", "Receives that wait for an object", now.waiting_receives)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"fedparty_mailbox_{name}", text, value=value)
