"""What goes between the side of HTTP and the side that reads: jobs one way, replies the other.

app.py (HTTP) -- Job --> Desk (threads here: jobs.py, or another process: process.py) -- replies --> app.py

Nothing here or in app.py imports torch, so that the process that answers clients stays small and quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from nanoocr.serve.errors import ApiError

PART = 2**18  # bytes of an answer that go at a time: a large one at once would hold up everybody else


class Job(NamedTuple):
    """A request as it came; whoever reads takes it apart."""

    kind: Literal["chat", "ocr", "look"]  # look: how full the decoder is, as JSON
    body: bytes | bytearray = b""
    content_type: str = ""
    accept: str = ""
    query: Mapping[str, str] = {}


class Reply(NamedTuple):
    """A piece of an answer: one `head` with a Head, `part`s of bytes, and `end`; or an `error` instead.

    The value of an `error` is what `ApiError.fields` gives. After parts it ends the answer.
    """

    kind: Literal["head", "part", "end", "error"]
    value: Any = None


class Head(NamedTuple):
    """What is known before the first byte of an answer; a stream has no length."""

    media_type: str
    length: int | None = None


Tell = Callable[[Reply], None]  # is called in any thread and returns at once
Note = Callable[[str, tuple[Any, ...]], None]  # what metrics.py counts: its name, its values


class Desk(Protocol):
    """Where jobs are done."""

    name: str  # of the model
    note: Note

    def ready(self) -> bool:
        """Whether it takes jobs now."""

    def begin(self, job: Job, tell: Tell) -> Callable[[], None]:
        """Have a job done; what comes back ends it, and is to be called when nobody waits for it any more.

        Raises:
            ApiError: no job is taken now.
        """


def tell_error(tell: Tell, error: ApiError) -> None:
    """End an answer by an error."""
    tell(Reply("error", error.fields()))


def tell_whole(tell: Tell, content: bytes, media_type: str) -> None:
    """An answer of which all is there."""
    tell(Reply("head", Head(media_type, len(content))))
    for start in range(0, len(content), PART):
        tell(Reply("part", content[start : start + PART]))
    tell(Reply("end"))
