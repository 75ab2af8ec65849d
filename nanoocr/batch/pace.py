"""How far a batch is, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nanoocr.batch.ledger import Counts, Ledger
from nanoocr.progress import clock


@dataclass(frozen=True)
class Pace:
    """Counts now, those at the start of this run, and the seconds between."""

    now: Counts
    then: Counts
    seconds: float

    @property
    def pages_per_second(self) -> float:
        """Of this run alone, failures among them."""
        read = self.now.done + self.now.failed - self.then.done - self.then.failed
        return max(read, 0) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float:
        """Pages to go. A document that nobody has opened counts as long as the mean of the others."""
        opened = self.now.documents - self.now.same - self.now.unread
        mean = self.now.pages / opened if opened and self.now.pages else 1.0
        waiting = self.now.pages - self.now.done - self.now.failed
        return max(waiting, 0) + self.now.unread * mean

    def __str__(self) -> str:
        rate = self.pages_per_second
        eta = f", {clock(self.left / rate)} to go" if rate > 0 else ""
        return f"{self.now.done} pages read, {self.now.failed} failed, {rate:.2f} pages/s{eta}"

    def summary(self) -> dict[str, Any]:
        """The sums of the whole batch and the speed of this run, for JSON."""
        return {
            **self.now._asdict(),
            "seconds": round(self.seconds, 3),
            "pages_per_second": round(self.pages_per_second, 4),
        }


@dataclass
class Watch:
    """Says every now and then how far it is."""

    ledger: Ledger
    then: Counts
    started: float
    every: float  # seconds between two lines
    say: Callable[[str], None]
    said: float = 0.0

    def look(self) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        if now - max(self.said, self.started) >= self.every:
            self.said = now
            self.say(str(self.pace()))

    def pace(self) -> Pace:
        """How far the batch is."""
        return Pace(self.ledger.counts(), self.then, time.monotonic() - self.started)


def watch(ledger: Ledger, every: float, say: Callable[[str], None]) -> Watch:
    """A watch that starts now."""
    return Watch(ledger, ledger.counts(), time.monotonic(), every, say)
