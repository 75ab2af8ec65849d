"""Lines that go out while a page is still read: whatever the rest says, the page begins with them."""

from __future__ import annotations

import base64
import io
import json
import random

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("starlette")

from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from nanoocr.document import join_lines  # noqa: E402
from nanoocr.inference.assemble import StripReading, assemble  # noqa: E402
from nanoocr.inference.engine import Completion, TokenCount  # noqa: E402
from nanoocr.layout import cut_strips, find_page  # noqa: E402
from nanoocr.serve.events import ChatEvents  # noqa: E402
from nanoocr.serve.live import DecidedLines  # noqa: E402

LINES = 9
MOST = 12  # characters that a strip says here


def page(lines: int) -> Image.Image:
    """A page of short lines, in two blocks."""
    image = Image.new("L", (420, 40 * lines + 100), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(24)
    for number in range(lines):
        draw.text((20, 20 + 40 * number + 60 * (number > lines // 2)), f"line {number:02d} of many", 0, font)
    return image.convert("RGB")


@pytest.fixture(scope="module")
def found():
    layout = find_page(page(LINES))
    strips = [s for place, line in enumerate(layout.lines) for s in cut_strips(page(LINES), line, place)]
    assert len(layout.lines) == LINES
    return layout, strips


def said(rng: random.Random, strips) -> list[StripReading]:
    """What a page may say: text, signs alone, nothing; surely, in doubt, hardly."""
    letters = rng.choice(("abcdefghij kl", "abcdefghij kl", "- .", "ab---", "O"))
    sure = rng.choice((0.9, 0.8, 0.6))
    readings = []
    for strip in strips:
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(MOST + 1))).strip()
        first, second = (completion(text, rng.gauss(sure, 0.15)) for _ in range(2))
        looks = (first, second) if rng.random() < 0.3 else ()  # the text is that of the second look then
        readings.append(StripReading(strip, second, looks))
    return readings


def completion(text: str, probability: float) -> Completion:
    p, count = min(1.0, max(0.05, probability)), TokenCount(0, 0, len(text))
    places, each = tuple(range(len(text))), (p,) * len(text)
    return Completion((), text, "ok", p, count, 0.0, each, places, stop_probability=p)


@pytest.mark.parametrize("least", [0.5, 0.0, 0.9])
def test_what_has_gone_out_stands(found, least):
    layout, strips = found
    rng, early = random.Random(int(10 * least)), 0
    for _ in range(150):
        readings = said(rng, strips)
        decided = DecidedLines(layout, strips, least)
        out, completions = "", []
        for place in rng.sample(range(len(strips)), len(strips)):
            for text, parts in decided.add(place, readings[place]):
                out += text
                completions += parts
            early += bool(out) and len(decided.readings) < len(strips)
        whole = assemble(layout, readings, least)
        assert join_lines(whole.lines).startswith(out)
        assert list(whole.completions[: len(completions)]) == completions
    assert early > 10  # and not all of it goes out at the end


def test_a_chat_sends_lines_before_the_page_is_read(service, served, monkeypatch):
    """The pieces are the text that is not streamed, its tokens included."""
    begun, page_read = [], ChatEvents.page_read

    def noted(self, number, read):
        begun.append(self.stream.begun)
        page_read(self, number, read)

    monkeypatch.setattr(ChatEvents, "page_read", noted)
    out = io.BytesIO()
    page(LINES).save(out, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}] * 2
    body = {"model": "nanoocr", "messages": [{"role": "user", "content": content}], "logprobs": True}
    with served(service) as (address, _):
        path = f"{address}/v1/chat/completions"
        whole = httpx.post(path, json=body, timeout=120).json()["choices"][0]
        streamed = httpx.post(path, json={**body, "stream": True}, timeout=120).text
    events = [json.loads(line[6:]) for line in streamed.split("\n\n") if line.startswith("data: {")]
    choices = [event["choices"][0] for event in events]
    pieces = [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")]
    assert begun == [True, True]
    assert "".join(pieces) == whole["message"]["content"] and len(pieces) >= 2 * LINES
    tokens = [one for choice in choices if choice["logprobs"] for one in choice["logprobs"]["content"]]
    assert [one["token"] for one in tokens] == [one["token"] for one in whole["logprobs"]["content"]]
