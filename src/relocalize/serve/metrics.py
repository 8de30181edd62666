"""What Prometheus is told."""

from __future__ import annotations

from functools import partial

import prometheus_client as prometheus

# Seconds; a photo takes 20 to 200 ms, a queue a few times that.
_BUCKETS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests, refusals and latencies of one service."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        counter = partial(prometheus.Counter, registry=self.registry)
        gauge = partial(prometheus.Gauge, registry=self.registry)
        self._requests = counter(
            "relocalize_requests", "Requests by route and status.", ["path", "status"]
        )
        self._refusals = counter(
            "relocalize_refusals", "Requests without an answer, by reason.", ["reason"]
        )
        self._answers = counter(
            "relocalize_answers",
            "Photos answered, by Place, localizer and status.",
            ["place", "localizer", "status"],
        )
        self._seconds = prometheus.Histogram(
            "relocalize_request_seconds",
            "From a request's first byte to its answer's last.",
            ["path"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.waiting = gauge("relocalize_waiting", "Requests that wait for a worker.", ["place"])
        self.workers = gauge("relocalize_workers", "Processes that localize.", ["place"])

    def count(self, path: str, status: int, seconds: float, refused: str | None) -> None:
        """One request is done."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        if refused is not None:
            self._refusals.labels(refused).inc()

    def answered(self, place: str, localizer: str, status: str) -> None:
        """One photo is answered."""
        self._answers.labels(place, localizer, status).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return prometheus.generate_latest(self.registry)
