"""The server as its clients meet it: a real process of uvicorn, the openai client, and requests by hand."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")

from PIL import Image  # noqa: E402

from nanoocr.inference.engine import Request  # noqa: E402
from nanoocr.serve.decoder import CancelledError, Decoder  # noqa: E402
from tests.serve.patient import post  # noqa: E402

SAMPLES = Path(__file__).parents[2] / "assets" / "samples"
CARDS = [
    SAMPLES / "card_1_line_dark.png",
    SAMPLES / "card_2_lines_light.png",
    SAMPLES / "card_3_lines_dark.png",
]


@pytest.fixture(scope="module")
def expected(service):
    return {card: service.reader.read(card).text for card in CARDS}


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def message(*pictures: bytes, text: str = "Read.") -> list[dict]:
    parts = [{"type": "image_url", "image_url": {"url": data_url(data)}} for data in pictures]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}]


def test_the_openai_client_reads_a_picture(address, expected):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="any")
    assert (
        [model.id for model in client.models.list()] == [client.models.retrieve("nanoocr").id] == ["nanoocr"]
    )
    two = message(CARDS[0].read_bytes(), CARDS[1].read_bytes())
    answer = client.chat.completions.create(model="nanoocr", messages=two)
    assert answer.choices[0].message.content == f"{expected[CARDS[0]]}\n\n{expected[CARDS[1]]}"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > answer.usage.prompt_tokens_details.image_tokens > 0
    raw = client.chat.completions.with_raw_response.create(model="nanoocr", messages=two)
    assert raw.parse().choices[0].message.content == answer.choices[0].message.content


def test_the_openai_client_streams(address, expected):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="any")
    chunks = list(
        client.chat.completions.create(
            model="nanoocr",
            messages=message(CARDS[2].read_bytes()),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == expected[CARDS[2]]
    assert chunks[-1].usage.total_tokens > 0 and chunks[-2].choices[0].finish_reason == "stop"


def test_the_async_client_reads_many_at_once(address, expected):
    async def ask() -> list[str]:
        client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="any")
        asked = [
            client.chat.completions.create(model="nanoocr", messages=message(card.read_bytes()))
            for card in CARDS * 3
        ]
        return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [expected[card] for card in CARDS * 3]


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "other"}, 404, "model"),
        ({"model": 3}, 400, "model"),
        ({"messages": "Read."}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "no picture"}]}, 400, "messages"),
        ({"n": 2}, 400, "n"),
        ({"n": True}, 400, "n"),
        ({"top_p": 1.5}, 400, "top_p"),
        ({"top_p": True}, 400, "top_p"),
        ({"logprobs": 1}, 400, "logprobs"),
        ({"top_logprobs": 2}, 400, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
        ({"stop": 0}, 400, "stop"),
        ({"stream_options": False}, 400, "stream_options"),
        ({"stream": "yes"}, 400, "stream"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"tools": []}, 400, "tools"),
        ({"messages": message(b"no picture")}, 400, "file"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(address, change, status, param):
    body = {"model": "nanoocr", "messages": message(CARDS[0].read_bytes()), **change}
    answer = post(f"{address}/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert error["message"] and error["type"] == "invalid_request_error"


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.png", "data:image/png;base64,%%", "data:,text", 7])
def test_addresses_and_broken_data_urls_are_refused(address, url):
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "nanoocr", "messages": [{"role": "user", "content": content}]}
    assert post(f"{address}/v1/chat/completions", json=body).status_code == 400


def test_bodies_that_are_no_json_or_too_large(address):
    assert post(f"{address}/v1/chat/completions", content=b"{").status_code == 400
    assert post(f"{address}/v1/chat/completions", content=b"[" * 100_000).status_code == 400
    large = post(f"{address}/v1/ocr", content=b"x" * (2**20 + 1))
    assert large.status_code == 413 and "MiB" in large.json()["error"]["message"]
    chunked = post(f"{address}/v1/ocr", content=(b"x" * 2**16 for _ in range(20)))
    assert chunked.status_code == 413


def test_ocr_gives_every_format(address, expected):
    data = CARDS[1].read_bytes()
    page = post(f"{address}/v1/ocr", files={"file": ("../../etc/x.png", data)}).json()["pages"][0]
    assert page["text"] == expected[CARDS[1]] and page["lines"][0]["words"]
    plain = post(f"{address}/v1/ocr", content=data, headers={"accept": "text/plain"})
    assert plain.text.strip() == expected[CARDS[1]]
    for name, sign in {
        "hocr": b"ocr_page",
        "alto": b"<alto",
        "page": b"PcGts",
        "pdf": b"%PDF",
        "tsv": b"\t",
    }.items():
        answer = post(f"{address}/v1/ocr?format={name}", content=data)
        assert answer.status_code == 200 and sign in answer.content, name
    assert post(f"{address}/v1/ocr?format=docx", content=data).status_code == 400


def test_ocr_streams_lines_and_pages(address, expected):
    with httpx.stream(
        "POST", f"{address}/v1/ocr?stream=true&preview=1", content=CARDS[2].read_bytes(), timeout=120
    ) as answer:
        sent = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert sent.pop() == "[DONE]"
    events = [json.loads(one) for one in sent]
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["start", "page_start"] and kinds[-2:] == ["page", "done"] and "line" in kinds
    assert events[-2]["page"]["text"] == expected[CARDS[2]]
    assert events[1]["image"].startswith("data:image/jpeg")


def test_documents_of_too_many_pages_are_refused(address):
    frames = [Image.new("RGB", (64, 64), "white") for _ in range(4)]
    out = io.BytesIO()
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    answer = post(f"{address}/v1/ocr", content=out.getvalue())
    assert answer.status_code == 400 and "4 pages" in answer.json()["error"]["message"]
    some = post(f"{address}/v1/ocr?pages=2-3", content=out.getvalue())
    assert [page["page"] for page in some.json()["pages"]] == [2, 3]


def test_keys_a_full_queue_and_a_stop(service, served):
    with served(service, keys=("secret", "süß"), max_queue=1) as (url, state):
        refused = httpx.get(f"{url}/v1/models")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        for sent in ("bearer secret", "BEARER secret", "Bearer süß".encode(), "Bearer süß".encode("latin-1")):
            assert httpx.get(f"{url}/v1/models", headers={"authorization": sent}).status_code == 200
        for sent in ("Basic secret", "Bearer secret2", "Bearer s\\xfc\\xdf"):
            assert httpx.get(f"{url}/v1/models", headers={"authorization": sent}).status_code == 401
        good = {"authorization": "Bearer secret"}
        assert httpx.get(f"{url}/v1/models", headers=good).status_code == 200
        state.inside = 1
        full = post(f"{url}/v1/ocr", content=b"x", headers=good)
        assert full.status_code == 429 and full.headers["retry-after"]
        assert httpx.get(f"{url}/ready").status_code == 503
        state.inside, state.stopping = 0, True
        assert post(f"{url}/v1/ocr", content=b"x", headers=good).status_code == 503
        assert httpx.get(f"{url}/health").status_code == 200


def test_the_time_of_a_request_ends(service, served):
    with served(service, timeout_s=0.0) as (url, _):
        answer = post(f"{url}/v1/ocr", content=CARDS[0].read_bytes())
        assert answer.status_code == 504 and answer.headers["x-should-retry"] == "false"


def test_metrics_count(address):
    def count(start: str) -> float:
        lines = httpx.get(f"{address}/metrics").text.splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith(start))

    pages, requests = (
        'nanoocr_pages_total{status="ok"}',
        'nanoocr_requests_total{path="/v1/ocr",status="200"}',
    )
    before = count(pages), count(requests)
    post(f"{address}/v1/ocr", content=CARDS[0].read_bytes())
    post(f"{address}/v1/ocr?stream=1", content=CARDS[0].read_bytes())
    assert (count(pages), count(requests)) == (before[0] + 2, before[1] + 2)
    for stage in ("open", "lines", "decode"):
        assert count(f'nanoocr_stage_seconds_sum{{stage="{stage}"}}') > 0
    assert count("nanoocr_loop_stall_own_seconds") <= count("nanoocr_loop_stall_seconds ")


def test_a_cancelled_request_leaves_the_batch(service):
    cancelled = threading.Event()
    cancelled.set()
    ids = tuple(service.reader.line_reader("Read.").behind)
    request = Request(ids)
    with pytest.raises(CancelledError):
        service.decoder.generate([request], cancelled=cancelled)
    assert not service.decoder.rows()


def test_rows_join_and_leave_without_touching_each_other(service):
    """Requests of which each meets others half way give what they give alone."""
    decoder = Decoder(service.reader.model, service.reader.tokenizer, service.reader.engine.head, max_rows=2)
    try:
        reader = service.reader
        strips = [_request(reader, card) for card in CARDS]
        alone = [reader.engine.generate([one])[0].ids for one in strips]
        with ThreadPoolExecutor(3) as threads:
            together = list(threads.map(lambda one: decoder.generate([one])[0].ids, strips))
        assert together == alone
    finally:
        decoder.close()


def test_one_request_leaves_room_in_the_batch(service):
    decoder = Decoder(service.reader.model, service.reader.tokenizer, service.reader.engine.head, max_rows=4)
    seen, step = [], decoder._step

    def noted(lane):
        seen.append((lane is decoder.short, [member.row.request.max_tokens for member in lane.members]))
        step(lane)

    decoder._step = noted
    try:
        long, short = (replace(_request(service.reader, CARDS[0]), max_tokens=most) for most in (30, 4))
        with ThreadPoolExecutor(2) as threads:
            many = threads.submit(decoder.generate, [long] * 9, max_batch=3)
            one = threads.submit(decoder.generate, [short])
            assert len(many.result()) == 9 and one.result()[0].text
    finally:
        decoder.close()
    assert max(rows.count(30) for _, rows in seen) == 3  # of them may be in the batch
    assert all((4 in rows) == short for short, rows in seen)  # each in its lane
    lanes = [short for short, _ in seen]
    assert lanes.index(True) < len(lanes) - 1 - lanes[::-1].index(False)  # the short one came between


def _request(reader, card):
    from nanoocr.layout import cut_strips, find_page

    image = Image.open(card).convert("RGB")
    strip = cut_strips(image, find_page(image).lines[0], 0)[0]
    return reader.line_reader("Read.").request(strip)


def ask(address: str, **change) -> dict:
    body = {"model": "nanoocr", "messages": message(CARDS[2].read_bytes()), **change}
    answer = post(f"{address}/v1/chat/completions", json=body, timeout=60)
    return {"status": answer.status_code, **answer.json()}


def test_logprobs_are_those_of_the_decoder(address, service, expected):
    choice = ask(address, logprobs=True, top_logprobs=2)["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == choice["message"]["content"] == expected[CARDS[2]]
    assert b"".join(bytes(one["bytes"]) for one in content).decode() == expected[CARDS[2]]
    page = service.reader.read(CARDS[2])
    mean = sum(math.exp(one["logprob"]) for one in content) / len(content)
    assert mean == pytest.approx(page.confidence, abs=1e-3)  # whole pages are told the same probabilities
    for one in content:
        best, second = one["top_logprobs"]
        assert best["logprob"] == pytest.approx(one["logprob"], abs=1e-4) and best != second
        assert best["logprob"] >= second["logprob"]
        assert (best["token"], best["bytes"]) == (one["token"], one["bytes"])  # the text shows the likeliest
    begun = [one for one in content if one["token"].startswith("\n")]
    assert begun and all(one["top_logprobs"][1]["token"].startswith("\n") for one in begun)


def test_logprobs_come_with_the_pieces_of_a_stream(address, expected):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="any")
    asked = message(CARDS[2].read_bytes())
    stream = client.chat.completions.create(model="nanoocr", messages=asked, stream=True, logprobs=True)
    choices = [chunk.choices[0] for chunk in stream]
    said = [one.token for choice in choices if choice.logprobs for one in choice.logprobs.content]
    assert "".join(said) == "".join(choice.delta.content or "" for choice in choices) == expected[CARDS[2]]


def test_limits_and_stops_cut_the_whole_answer(address, expected):
    text = expected[CARDS[2]]
    short = ask(address, max_tokens=3)
    assert text.startswith(short["choices"][0]["message"]["content"])
    assert short["choices"][0]["finish_reason"] == "length" and short["usage"]["completion_tokens"] == 3
    word = text.split()[1]
    stopped = ask(address, stop=[word], logprobs=True)["choices"][0]
    assert stopped["message"]["content"] == text[: text.index(word)] and stopped["finish_reason"] == "stop"
    assert "".join(one["token"] for one in stopped["logprobs"]["content"]) == stopped["message"]["content"]


@pytest.mark.parametrize("end", [{"max_tokens": 3}, {"stop": "\n"}])
def test_no_page_is_read_behind_the_end_of_an_answer(address, end):
    """Else a stream of a long document is silent for minutes after its last word."""
    frames, out = [Image.open(CARDS[2]).convert("RGB")] * 3, io.BytesIO()
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    asked = message(out.getvalue(), out.getvalue())
    one, many = ask(address, **end), ask(address, messages=asked, **end)
    assert many["choices"] == one["choices"] and many["usage"] == one["usage"]
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="any")
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model="nanoocr", messages=asked, **options, **end))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == one["choices"][0]["message"]["content"]
    assert chunks[-2].choices[0].finish_reason == one["choices"][0]["finish_reason"]
    assert chunks[-1].usage.model_dump()["total_tokens"] == one["usage"]["total_tokens"]


def test_chance_follows_seed_and_top_p(address, expected):
    hot = {"temperature": 2, "max_tokens": 40}
    texts = [
        ask(address, **hot, **change)["choices"][0]["message"]["content"]
        for change in (
            {"seed": 1},
            {"seed": 1},
            {"seed": 2},
            {"seed": 3, "top_p": 0},
            {"seed": 4, "top_p": 0},
        )
    ]
    assert texts[0] == texts[1] and len({texts[0], texts[2], texts[3]}) > 1
    assert texts[3] == texts[4]  # the likeliest token alone is left


@pytest.mark.parametrize(
    "messages",
    [
        message(CARDS[0].read_bytes(), text="What is the sum of this bill?"),
        [{"role": "system", "content": "Answer in Latin."}, *message(CARDS[0].read_bytes())],
    ],
)
def test_a_text_that_the_model_does_not_see_is_refused_or_named(address, service, served, messages, expected):
    refused = ask(address, messages=messages)
    assert (refused["status"], refused["error"]["code"]) == (400, "unsupported_prompt")
    assert "--any_prompt" in refused["error"]["message"]
    with served(service, any_prompt=True) as (lenient, _):
        answer = ask(lenient, messages=messages)
    assert answer["choices"][0]["message"]["content"] == expected[CARDS[0]]
    assert len(answer["warnings"]) == 1
    assert "warnings" not in ask(address, messages=message(CARDS[0].read_bytes(), text=" read "))
