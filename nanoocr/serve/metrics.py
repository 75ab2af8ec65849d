"""The numbers of /metrics, in the text format of Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nanoocr.serve.heartbeat import Beat

# A fixed list, because each new label value costs memory.
PATHS = ("/v1/models", "/v1/chat/completions", "/v1/ocr")


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to = self.registry
        self.requests = Counter(
            "nanoocr_requests", "Requests by path and status", ["path", "status"], registry=to
        )
        self.seconds = Histogram("nanoocr_request_seconds", "Seconds of a request", ["path"], registry=to)
        self.pages = Counter("nanoocr_pages", "Pages by how they ended", ["status"], registry=to)
        self.page_seconds = Histogram("nanoocr_page_seconds", "Seconds of a page", registry=to)
        self.stages = Histogram("nanoocr_stage_seconds", "Seconds of a page's stage", ["stage"], registry=to)
        self.tokens = Counter("nanoocr_tokens", "Tokens by kind", ["kind"], registry=to)
        self.queue = Gauge("nanoocr_queue", "Requests inside, waiting ones included", registry=to)
        self.batch = Gauge("nanoocr_batch_rows", "Rows that are decoded together", registry=to)
        self.stall = Gauge(
            "nanoocr_loop_stall_seconds", "Longest time the event loop stood still", registry=to
        )
        self.own_stall = Gauge(
            "nanoocr_loop_stall_own_seconds", "Longest stall without the wait for a processor", registry=to
        )
        self.longest = [0.0, 0.0]
        self.rows = Gauge("nanoocr_waiting_rows", "Rows that wait for a place in the batch", registry=to)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        known = path if path in PATHS else "other"
        self.requests.labels(known, str(status)).inc()
        self.seconds.labels(known).observe(seconds)

    def note(self, what: str, values: tuple[Any, ...]) -> None:
        """Count what the process with the model reports: a `stage` of a page, or a `page` that has been read.

        Stages are open, lines and decode, with their seconds; the last two wait for a processor. A page has
        its status, its seconds, and its tokens by kind.
        """
        if what == "stage":
            name, seconds = values
            self.stages.labels(name).observe(seconds)
            return
        status, seconds, tokens = values
        self.pages.labels(status).inc()
        self.page_seconds.observe(seconds)
        for kind, count in tokens.items():
            self.tokens.labels(kind).inc(count)

    def stalled(self, beat: Beat) -> None:
        """Note by how much the event loop was late."""
        self.longest = [max(self.longest[0], beat.late), max(self.longest[1], beat.own)]
        self.stall.set(self.longest[0])
        self.own_stall.set(self.longest[1])

    def look(self, queue: int, batch: int, waiting: int) -> None:
        """Set the gauges: what is true at this moment."""
        self.queue.set(queue)
        self.batch.set(batch)
        self.rows.set(waiting)

    def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        return generate_latest(self.registry)
