"""What a reading tells becomes server-sent events, for /v1/ocr and chats, or the whole answer of a chat.

Service.read -> Watch: a page begins, a strip is read, a page is read -> `data: {...}` to the client
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from nanoocr.inference.assemble import StripReading
from nanoocr.inference.engine import Completion
from nanoocr.layout import PageLayout, Strip
from nanoocr.serve.answer import Form, Pieces, Said, Speech, ending, usage_of
from nanoocr.serve.chat import ChatRequest
from nanoocr.serve.live import DecidedLines
from nanoocr.serve.messages import Head, Reply, Tell, event_line
from nanoocr.serve.service import Read, Watch

PREVIEW = 1400  # longer side, in pixels, of the small picture of a page
STREAM = Head("text/event-stream")


class Stream:
    """Sends events to a client. The first one begins the answer; until then an error can have a status."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.begun = False

    def send(self, event: dict[str, Any]) -> None:
        """Send an event."""
        if not self.begun:
            self.begun = True
            self.tell(Reply("head", STREAM))
        self.tell(Reply("part", event_line(event)))

    def end(self) -> None:
        """End the stream; this tells the client that nothing is missing."""
        self.tell(Reply("part", b"data: [DONE]\n\n"))
        self.tell(Reply("end"))


class OcrEvents(Watch):
    """The events of /v1/ocr, as docs/guide/serve.md has them."""

    in_order = True

    def __init__(self, stream: Stream, preview: bool) -> None:
        self.stream, self.preview = stream, preview
        self.layout: PageLayout | None = None
        self.of = 0
        self.held: list[dict[str, Any]] = []  # until a page can be read: the answer may still be an error

    def _send(self, event: dict[str, Any], begins: bool = True) -> None:
        """Send an event. One that does not begin the stream is held until another one does."""
        self.held.append(event)
        if begins or self.stream.begun:
            for one in self.held:
                self.stream.send(one)
            self.held = []

    def opened(self, file: str, pages: int) -> None:
        """A document has been opened."""
        self._send({"type": "start", "file": file, "pages": pages}, begins=False)

    def page_begun(self, number: int, image: Image.Image) -> None:
        """A page is looked at."""
        shown = {"image": preview(image)} if self.preview else {}
        size = {"width": image.width, "height": image.height}
        self._send({"type": "page_start", "index": number, **size, **shown})

    def found(self, layout: PageLayout, strips: Sequence[Strip]) -> None:
        """The lines of the page are known."""
        self.layout, self.of = layout, len(strips)

    def strip_read(self, number: int, place: int, reading: StripReading) -> None:
        """A strip has been read."""
        assert self.layout is not None  # `found` has come before
        line = reading.strip.line
        quad = [[round(x, 1), round(y, 1)] for x, y in self.layout.lines[line].quad]
        event = {"type": "line", "index": number, "line": line, "strip": place, "quad": quad, "of": self.of}
        text, sure = reading.completion.text, round(reading.confidence, 4)
        self._send({**event, "text": text, "confidence": sure})

    def page_read(self, number: int, read: Read) -> None:
        """A page has been read, or could not be."""
        self._send({"type": "page", "index": number, "page": read.page.to_dict()}, begins=False)

    def done(self, reads: Sequence[Read]) -> None:
        """All has been read."""
        self._send({"type": "done", "usage": usage_of([one.page for one in reads])})
        self.stream.end()


class ChatEvents(Watch):
    """Streams a chat's text, each line as soon as it is decided. Joined, they are the unstreamed answer."""

    in_order = True

    def __init__(self, stream: Stream, asked: ChatRequest, form: Form, least: float) -> None:
        self.stream, self.asked, self.form, self.least = stream, asked, form, least
        self.speech, self.pieces = Speech(asked.stop, asked.max_tokens), Pieces()
        self.pages = 0  # how many pages have begun, over all documents
        self._begin_page()

    def _begin_page(self) -> None:
        self.shown, self.count = "", 0  # of this page: its text so far, and the strips that gave it
        self.decided: DecidedLines | None = None

    def found(self, layout: PageLayout, strips: Sequence[Strip]) -> None:
        """The lines of the page are known."""
        self.decided = DecidedLines(layout, strips, self.least)

    def strip_read(self, number: int, place: int, reading: StripReading) -> None:
        """A strip has been read: perhaps lines are decided now."""
        assert self.decided is not None  # it was found before
        for text, completions in self.decided.add(place, reading):
            self._say(text, completions)

    def page_read(self, number: int, read: Read) -> None:
        """A page has been read: what is left of it goes out."""
        text = read.page.text
        if not text.startswith(self.shown):
            raise AssertionError(f"a line was sent before it was decided: {self.shown!r} of {text!r}")
        self._say(text[len(self.shown) :], read.completions[self.count :])
        self.pages += 1
        self._begin_page()

    def has_enough(self) -> bool:
        """Whether the answer has ended, by a stop string or by its limit."""
        return self.speech.is_over

    def _say(self, text: str, completions: Sequence[Completion]) -> None:
        if self.pages and not self.shown and not self.count:
            self.speech.add("\n\n", ())
        self.shown += text
        self.count += len(completions)
        self.speech.add(text, completions)
        for piece in self.pieces.add(self.speech.take()):
            self._send(piece)

    def _send(self, said: Sequence[Said]) -> None:
        self._begin()
        delta = {"content": "".join(one.text for one in said)}
        self.stream.send(self.form.chunk(delta, said, warnings=self.asked.warnings))

    def _begin(self) -> None:
        if not self.stream.begun:
            delta = {"role": "assistant", "content": ""}
            self.stream.send(self.form.chunk(delta, warnings=self.asked.warnings))

    def done(self, reads: Sequence[Read]) -> None:
        """All has been read."""
        self._begin()
        for piece in (*self.pieces.add(self.speech.take(end=True)), *self.pieces.rest()):
            self._send(piece)
        end = ending([one.page for one in reads], self.speech, self.asked)
        self.stream.send(self.form.chunk({}, reason=end.finish_reason, warnings=end.warnings))
        if self.asked.usage:
            self.stream.send(self.form.usage_chunk(end))
        self.stream.end()


class ChatWhole(Watch):
    """Puts the answer of a chat together that is sent at once."""

    def __init__(self, asked: ChatRequest, form: Form) -> None:
        self.asked, self.form = asked, form
        self.speech = Speech(asked.stop, asked.max_tokens)
        self.said: list[Said] = []
        self.pages = 0  # how many have been read, over all documents

    def page_read(self, number: int, read: Read) -> None:
        """A page has been read."""
        self.speech.add("\n\n" if self.pages else "", ())
        self.speech.add(read.page.text, read.completions)
        self.said += self.speech.take()
        self.pages += 1

    def has_enough(self) -> bool:
        """As of ChatEvents."""
        return self.speech.is_over

    def answer(self, reads: Sequence[Read]) -> bytes:
        """The JSON of the answer, once all has been read."""
        said = [*self.said, *self.speech.take(end=True)]
        values = self.form.completion(said, ending([one.page for one in reads], self.speech, self.asked))
        return json.dumps(values, ensure_ascii=False).encode()


def preview(image: Image.Image) -> str:
    """A picture as a data URL, small enough for a screen."""
    small = image.copy()
    small.thumbnail((PREVIEW, PREVIEW))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
