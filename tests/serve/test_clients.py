"""The same conversation with each real client: pictures, streams, a PDF, mistakes, a full server, a key.

litellm is large, so that it has an extra of its own (clients); without it its tests skip themselves.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

from PIL import Image  # noqa: E402

SAMPLES = Path(__file__).parents[2] / "assets" / "samples"
CARD, OTHER = SAMPLES / "card_2_lines_light.png", SAMPLES / "card_1_line_dark.png"
KEY = "a key"


@pytest.fixture(scope="module")
def running(service, served):
    """A server with a key, and its state."""
    with served(service, keys=(KEY,), max_queue=20) as found:
        yield found


@pytest.fixture(scope="module")
def expected(service):
    return service.reader.read(CARD).text


@pytest.fixture
def full(running):
    """A server that is full for its next three quarters of a second."""
    _, state = running
    state.inside += 100

    def leave():
        state.inside -= 100

    timer = threading.Timer(0.75, leave)
    timer.start()
    yield
    timer.join()


def data_url(path: Path, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def messages(path: Path = CARD, text: str = "Read.") -> list[dict]:
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": data_url(path)}}]
    return [{"role": "user", "content": parts}]


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    path = tmp_path_factory.mktemp("pdf") / "card.pdf"
    Image.open(CARD).convert("RGB").save(path, resolution=150)
    return path


def file_part(pdf: Path) -> list[dict]:
    file = {"file_data": data_url(pdf, "application/pdf"), "filename": "card.pdf"}
    return [{"role": "user", "content": [{"type": "file", "file": file}]}]


# openai


@pytest.fixture
def client(running):
    return openai.OpenAI(base_url=f"{running[0]}/v1", api_key=KEY)


def test_openai_gives_the_raw_response_and_streams_it(client, expected):
    raw = client.chat.completions.with_raw_response.create(model="nanoocr", messages=messages())
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().choices[0].message.content == expected
    with client.chat.completions.with_streaming_response.create(
        model="nanoocr", messages=messages(), stream=True
    ) as streamed:
        lines = [line for line in streamed.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"


def test_openai_reads_the_file_part_of_a_pdf(client, service, pdf):
    answer = client.chat.completions.create(model="nanoocr", messages=file_part(pdf))
    assert answer.choices[0].message.content == service.reader.read(pdf).text


def test_openai_comes_again_where_the_server_is_full(client, expected, full):
    answer = client.chat.completions.create(model="nanoocr", messages=messages())
    assert answer.choices[0].message.content == expected


def test_openai_raises_the_right_errors(running, client):
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
        client.chat.completions.create(model="other", messages=messages())
    with pytest.raises(openai.BadRequestError, match="knows one question") as raised:
        client.chat.completions.create(model="nanoocr", messages=messages(text="Sum it up."), stream=True)
    assert (raised.value.param, raised.value.code) == ("messages", "unsupported_prompt")
    with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
        client.with_options(api_key="another").models.list()
    running[1].stopping = True
    try:
        once = client.with_options(max_retries=0).chat.completions
        with pytest.raises(openai.InternalServerError, match="stopping"):
            once.create(model="nanoocr", messages=messages())
    finally:
        running[1].stopping = False


def test_the_async_client_streams_and_may_leave(running, expected):
    async def talk() -> str:
        async with openai.AsyncOpenAI(base_url=f"{running[0]}/v1", api_key=KEY) as client:
            left = await client.chat.completions.create(model="nanoocr", messages=messages(), stream=True)
            await left.close()
            stream = await client.chat.completions.create(model="nanoocr", messages=messages(), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(talk()) == expected
    assert running[1].inside == 0


# litellm


@pytest.fixture
def litellm(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network at its import
    return pytest.importorskip("litellm")


def test_litellm(running, litellm, expected, service, pdf, full):
    def ask(**change):
        values = {"model": "openai/nanoocr", "messages": messages(), **change}
        return litellm.completion(api_base=f"{running[0]}/v1", api_key=KEY, num_retries=2, **values)

    answer = ask()  # the server is full at first
    assert answer.choices[0].message.content == expected and answer.usage.prompt_tokens > 0
    stream = list(ask(stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == expected
    assert ask(messages=file_part(pdf)).choices[0].message.content == service.reader.read(pdf).text
    assert asyncio.run(_acompletion(litellm, running[0])) == expected
    with pytest.raises(litellm.BadRequestError, match="knows one question"):
        ask(messages=messages(text="Sum it up."))


async def _acompletion(litellm, url: str) -> str:
    answer = await litellm.acompletion(
        model="openai/nanoocr", messages=messages(), api_base=f"{url}/v1", api_key=KEY
    )
    return answer.choices[0].message.content


# langchain


def test_langchain(running, expected, service, pdf, full):
    made = pytest.importorskip("langchain_openai")
    model = made.ChatOpenAI(model="nanoocr", base_url=f"{running[0]}/v1", api_key=KEY, max_tokens=400)
    answer = model.invoke(messages())  # the server is full at first
    assert answer.content == expected and answer.usage_metadata["total_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"
    assert "".join(chunk.content for chunk in model.stream(messages())) == expected
    content = base64.b64encode(pdf.read_bytes()).decode()
    part = {"type": "file", "source_type": "base64", "mime_type": "application/pdf", "data": content}
    sent = [{"role": "user", "content": [{**part, "filename": "card.pdf"}]}]
    assert model.invoke(sent).content == service.reader.read(pdf).text
    told = model.bind(logprobs=True, top_logprobs=2).invoke(messages()).response_metadata["logprobs"]
    assert "".join(one["token"] for one in told["content"]) == expected
    with pytest.raises(openai.BadRequestError, match="knows one question"):
        model.invoke(messages(text="Sum it up."))


# curl


def curl(*arguments: str, data: bytes = b"") -> tuple[int, bytes]:
    """The status and the body."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command = ["curl", "--silent", "--max-time", "60", "--write-out", "\n%{http_code}", *arguments]
    body, _, status = subprocess.run(command, input=data, capture_output=True, check=True).stdout.rpartition(
        b"\n"
    )
    return int(status), body


def test_curl(running, expected, tmp_path):
    url, key = running[0], f"Authorization: Bearer {KEY}"
    assert curl(f"{url}/v1/models")[0] == 401
    form = ("--form", f"file=@{CARD}", "--header", key)
    assert curl(*form, "--form", "format=txt", f"{url}/v1/ocr") == (200, f"{expected}\n".encode())
    raw = ("--header", key, "--data-binary", "@-", f"{url}/v1/ocr")
    status, body = curl(*raw, data=CARD.read_bytes())
    assert status == 200 and json.loads(body)["pages"][0]["text"] == expected
    accepted = curl("--header", "Accept: application/alto+xml", *raw, data=CARD.read_bytes())
    assert b"<alto" in accepted[1]
    status, body = curl("--header", "Transfer-Encoding: chunked", *raw, data=CARD.read_bytes())
    assert status == 200 and json.loads(body)["pages"][0]["text"] == expected
    chat = json.dumps({"model": "nanoocr", "messages": messages(), "stream": True}).encode()
    to_chat = ("--header", key, "--data-binary", "@-", f"{url}/v1/chat/completions")
    status, body = curl("--no-buffer", *to_chat, data=chat)
    assert status == 200 and body.rstrip().endswith(b"data: [DONE]")
    status, body = curl(*to_chat, data=b"{}")
    assert status == 400 and json.loads(body)["error"]["param"] == "model"
    assert curl("--request", "PUT", f"{url}/v1/ocr")[0] == 405
