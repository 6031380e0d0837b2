"""What the flow tells Prometheus.

Owns the names of the metrics. Does not own the listener (see `fedparty.rpc.operations`).
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fedparty.flow.resources import Resources
from fedparty.flow.scheduler import Scheduler


class FlowMetrics(Collector):
    """Reads off the flow, at each scrape, what it does.

    Parameters
    ----------
    scheduler, resources
        What is read.
    registry
        Where the metrics appear.
    """

    def __init__(self, scheduler: Scheduler, resources: Resources, registry: CollectorRegistry) -> None:
        self._scheduler = scheduler
        self._resources = resources
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        yield GaugeMetricFamily(
            "fedparty_flow_open_jobs", "Jobs of this party that have not ended", value=self._scheduler.open_jobs
        )
        yield GaugeMetricFamily(
            "fedparty_flow_waiting_tasks",
            "Tasks of this party's jobs that wait for resources",
            value=self._scheduler.waiting_tasks,
        )
        total, free = self._resources.total, self._resources.free
        yield GaugeMetricFamily("fedparty_flow_cores", "Cores this party offers", value=total.cores)
        yield GaugeMetricFamily("fedparty_flow_free_cores", "Cores nobody uses", value=free.cores)
        yield GaugeMetricFamily("fedparty_flow_memory_bytes", "Memory this party offers", value=total.memory_bytes)
        yield GaugeMetricFamily("fedparty_flow_free_memory_bytes", "Memory nobody asked for", value=free.memory_bytes)
        yield GaugeMetricFamily("fedparty_flow_gpus", "GPUs this party offers", value=total.gpus)
        yield GaugeMetricFamily("fedparty_flow_free_gpus", "GPUs nobody uses", value=free.gpus)
        ended = CounterMetricFamily("fedparty_flow_jobs_ended", "Jobs of this party that ended", labels=["state"])
        for state, count in sorted(self._scheduler.ended.items()):
            ended.add_metric([state], count)
        yield ended
