"""What Prometheus reads: requests, waiting, cost, strategies, filters that fail. No prompt and no name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from steerclear.serve.jobs import Made
from steerclear.types import Detection, Report

SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)
OVERHEADS = (1, 1.05, 1.1, 1.25, 1.5, 2, 3, 4, 6, 8, 12)


class Metrics:
    """The figures of one server, each in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "steerclear_requests",
            "Requests, by the path's template and how they ended.",
            ["path", "outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "steerclear_request_seconds",
            "Time from a request's arrival to its answer.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.pictures = Counter(
            "steerclear_pictures", "Pictures, by outcome.", ["outcome"], registry=registry
        )
        self.queue_depth = Gauge(
            "steerclear_queue_depth", "Requests that wait for a worker.", ["lane"], registry=registry
        )
        self.queue_wait = Histogram(
            "steerclear_queue_wait_seconds",
            "Time that a request waited for a worker.",
            buckets=SECONDS,
            registry=registry,
        )
        self.calls = Counter(
            "steerclear_calls", "Calls of a pipeline; a batch of requests is one.", registry=registry
        )
        self.overhead = Histogram(
            "steerclear_overhead_ratio",
            "Denoiser evaluations of a picture over the plain pipeline's.",
            buckets=OVERHEADS,
            registry=registry,
        )
        self.attempts = Counter(
            "steerclear_attempts",
            "Attempts to steer a picture, by strategy.",
            ["strategy", "passed"],
            registry=registry,
        )
        self.filter_errors = Counter(
            "steerclear_filter_errors",
            "Detections of filters that could not judge; each counts as flagged.",
            ["filter"],
            registry=registry,
        )
        self.abandoned = Counter(
            "steerclear_abandoned_requests",
            "Requests that a worker had begun and nobody waited for any more.",
            registry=registry,
        )
        self.abandoned_evaluations = Counter(
            "steerclear_abandoned_evaluations",
            "Denoiser evaluations that were spent on those.",
            registry=registry,
        )
        self.restarts = Counter(
            "steerclear_worker_restarts", "Worker processes that were started again.", registry=registry
        )
        self.ready_workers = Gauge(
            "steerclear_workers_ready", "Worker processes that can take work.", registry=registry
        )

    def count(self, reports: Sequence[Report]) -> None:
        """Count the pictures of a request."""
        for report in reports:
            self.pictures.labels(str(report.outcome)).inc()
            if math.isfinite(report.overhead):
                self.overhead.observe(report.overhead)
            for attempt in report.attempts:
                self.attempts.labels(attempt.strategy, str(attempt.passed).lower()).inc()
            self.count_errors(report.detections)
            for attempt in report.attempts:
                self.count_errors(attempt.after)

    def count_abandoned(self, produced: Made) -> None:
        """Count a request whose result nobody waits for."""
        self.abandoned.inc()
        self.abandoned_evaluations.inc(sum(report.nfe for report in produced.reports))

    def count_errors(self, detections: Sequence[Detection]) -> None:
        """Count the filters that could not judge."""
        for detection in detections:
            if detection.error is not None:
                self.filter_errors.labels(detection.filter).inc()

    def exposed(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
