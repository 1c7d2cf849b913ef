"""What ``/metrics`` tells, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as _Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class State(NamedTuple):
    """What is counted where it is kept."""

    repositories: int
    manifests: int
    tags: int
    blobs: int
    blob_bytes: int
    uploads: int
    rounds: int
    collected_blobs: int
    collected_bytes: int


class Metrics:
    """The registry's counters; ``state`` is asked when somebody reads them."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "registry_http_requests", "Requests answered", ["handler", "method", "code"], registry=self._registry
        )
        self.seconds = Histogram(
            "registry_http_request_duration_seconds",
            "Time to the end of the answer",
            ["handler"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.active = Gauge("registry_http_in_flight_requests", "Requests being answered", registry=self._registry)
        self.received = Counter("registry_upload_bytes", "Bytes of blobs received", registry=self._registry)
        self.events = Counter(
            "registry_notifications_events",
            "Events by what became of them",
            ["endpoint", "type"],
            registry=self._registry,
        )
        self.proxy = Counter(
            "registry_proxy_requests", "Pull-through requests", ["type", "outcome"], registry=self._registry
        )
        self._registry.register(_Stored(state))

    def text(self) -> bytes:
        """Return all of it; blocks on the database."""
        return generate_latest(self._registry)


class _Stored(_Collector):
    """Gauges read from the storage."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def describe(self) -> list[Metric]:
        """Nothing: the names would have to be computed for it."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        state = self._state()
        for name, text, value in (
            ("registry_repositories", "Repositories", state.repositories),
            ("registry_manifests", "Manifests", state.manifests),
            ("registry_tags", "Tags", state.tags),
            ("registry_blobs", "Blobs", state.blobs),
            ("registry_blob_bytes", "Bytes of all blobs", state.blob_bytes),
            ("registry_uploads", "Uploads under way", state.uploads),
        ):
            yield GaugeMetricFamily(name, text, value)
        for name, text, value in (
            ("registry_gc_rounds", "Rounds of garbage collection", state.rounds),
            ("registry_gc_blobs", "Blobs collected", state.collected_blobs),
            ("registry_gc_bytes", "Bytes of blobs collected", state.collected_bytes),
        ):
            yield CounterMetricFamily(name, text, value)
