"""What passes between the HTTP side and the process with the model: jobs one way, replies the other.

app.py (HTTP) -- Job --> Desk (threads here: jobs.py, or another process: process.py) -- replies --> app.py

Nothing here or in app.py imports torch, so that the process that answers clients stays small and quick.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from nanoocr.serve.errors import ApiError

# Line ends to Python's splitlines and no others. Clients that use it would cut an event in two.
ODD_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
PART = 2**18  # bytes of an answer that are sent at once; a larger piece would hold up all other answers


class Job(NamedTuple):
    """A request as it came. The process with the model parses it."""

    kind: Literal["chat", "ocr", "look"]  # look: asks how full the decoder is
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
    """What is known before the first byte of an answer. The length of a stream is unknown."""

    media_type: str
    length: int | None = None


Tell = Callable[[Reply], None]  # is called in any thread and returns at once
Note = Callable[[str, tuple[Any, ...]], None]  # what metrics.py counts: its name, its values


class Desk(Protocol):
    """Where jobs are done."""

    name: str  # of the model
    note: Note

    def ready(self) -> bool:
        """Whether it accepts jobs now."""

    def begin(self, job: Job, tell: Tell) -> Callable[[], None]:
        """Start a job. Returns a function that ends it, to be called when nobody waits for the job.

        Raises:
            ApiError: no job is accepted now.
        """


def tell_error(tell: Tell, error: ApiError) -> None:
    """End an answer with an error."""
    tell(Reply("error", error.fields()))


def tell_whole(tell: Tell, content: bytes, media_type: str) -> None:
    """Send a complete answer."""
    tell(Reply("head", Head(media_type, len(content))))
    for start in range(0, len(content), PART):
        tell(Reply("part", content[start : start + PART]))
    tell(Reply("end"))


def event_line(event: dict[str, Any]) -> bytes:
    """An event of a stream as the bytes that are sent."""
    text = ODD_LINE_ENDS.sub(_escaped, json.dumps(event, ensure_ascii=False))
    return f"data: {text}\n\n".encode()


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
