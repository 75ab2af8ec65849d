"""What an address does not take is refused in one sentence that says what it does take."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from PIL import Image  # noqa: E402

from nanoocr.serve.jobs import accepted_format  # noqa: E402
from tests.serve.patient import post  # noqa: E402

CARDS = Path(__file__).parents[2] / "assets" / "samples"
CARD = (CARDS / "card_1_line_dark.png").read_bytes()


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed", "says"),
    [
        ("GET", "/v1/ocr", 405, {"POST"}, "send POST with a picture or a PDF"),
        ("PUT", "/v1/chat/completions", 405, {"POST"}, "send POST with OpenAI's JSON"),
        ("POST", "/v1/models", 405, {"GET", "HEAD"}, "does not take POST: send GET"),
        ("DELETE", "/v1/models/nanoocr", 405, {"GET", "HEAD"}, "does not take DELETE: send GET"),
        ("OPTIONS", "/", 405, {"GET", "HEAD"}, "in a browser"),
        ("GET", "/v1/models/other", 404, None, "there is no model 'other'"),
        ("POST", "/v1/ocr/", 404, None, "there is nothing at /v1/ocr/"),
        ("POST", "/chat/completions", 404, None, "the addresses are /v1/chat/completions, /v1/ocr"),
        ("GET", "/../../etc/passwd", 404, None, "there is nothing at"),
    ],
)
def test_what_no_address_takes_is_told_with_the_mend(address, method, path, status, allowed, says):
    answer = httpx.request(method, f"{address}{path}", timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "invalid_request_error")
    assert says in error["message"] and set(error) == {"message", "type", "param", "code"}
    told = answer.headers.get("allow")
    assert (told and set(told.split(", "))) == allowed


@pytest.mark.parametrize(
    ("accept", "format_name"),
    [
        ("application/json, text/plain, */*", "json"),  # what axios sends
        ("text/plain;q=0.1, application/json", "json"),
        ("application/json;q=0, Text/Plain", "txt"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
        ("image/png, text/*", "txt"),
        ("application/pdf;q=x, ,;;", "pdf"),
    ],
)
def test_the_header_accept_chooses_what_it_likes_most(accept, format_name):
    assert accepted_format(accept) == format_name


@pytest.mark.parametrize(
    ("query", "headers", "param", "says"),
    [
        ("?stream=true&format=txt", {}, "format", "a stream sends events in JSON"),
        ("?preview=true", {}, "preview", "send stream=true as well"),
        ("?model=other", {}, "model", "there is no model 'other'"),
        ("?format=page", {}, "format", "has 2: choose one, as in pages=1"),
        ("", {"content-type": "MULTIPART/form-data; boundary=x"}, None, "the form cannot be read"),
    ],
)
def test_what_ocr_cannot_do_is_refused_by_name(address, query, headers, param, says):
    out = io.BytesIO()
    page = Image.new("RGB", (64, 64), "white")
    page.save(out, "TIFF", save_all=True, append_images=[page])
    error = post(f"{address}/v1/ocr{query}", content=out.getvalue(), headers=headers).json()["error"]
    assert error["param"] == param and says in error["message"]


def test_json_for_ocr_is_told_what_to_send(address):
    answer = post(f"{address}/v1/ocr", json={"file": "a"})
    assert answer.status_code == 400 and "the body is JSON: send" in answer.json()["error"]["message"]


def chat(address, data=CARD, **fields):
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "nanoocr", "messages": [{"role": "user", "content": content}], **fields}
    return post(f"{address}/v1/chat/completions", json=body)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"temperature": 10**400}, "temperature must be a number from 0 to 2"),
        ({"top_p": -(10**400)}, "top_p must be a number from 0 to 1"),
        ({"seed": 2**31}, "seed must be a whole number from 0 to 2147483647"),
        ({"max_tokens": 10**400}, "max_tokens must be a whole number from 1 to 2147483647"),
        ({"stop": [""]}, "none of them empty"),
    ],
)
def test_a_number_of_any_size_is_told_its_bounds(address, fields, says):
    answer = chat(address, **fields)
    assert answer.status_code == 400 and says in answer.json()["error"]["message"]


def test_null_asks_for_nothing(address):
    """Some clients write each field of the interface, those without a value as null."""
    assert chat(address, tools=None, logit_bias=None, reasoning_effort=None, stop=None).status_code == 200
    assert chat(address, tools=[]).json()["error"]["param"] == "tools"


@pytest.mark.parametrize("fields", [{"model": "m" * 10**5}, {"f" * 10**5: 1}, {"n": ["n" * 10**5]}])
def test_an_error_repeats_no_more_than_a_line_of_what_was_sent(address, fields):
    answer = chat(address, **fields)
    error = answer.json()["error"]
    assert answer.status_code in (400, 404) and error["message"] and len(answer.content) < 2500
    assert error["message"].endswith(("only 'nanoocr'", "is not supported here", "only 1"))


def test_a_chat_is_not_told_to_send_what_it_does_not_take(address):
    """A chat has no field `pages`."""
    out = io.BytesIO()
    page = Image.new("RGB", (64, 64), "white")
    page.save(out, "TIFF", save_all=True, append_images=[page] * 3)
    assert (
        "ask /v1/ocr for some of them, as in pages=1-3"
        in chat(address, out.getvalue()).json()["error"]["message"]
    )


@pytest.mark.parametrize("data", [CARD[: len(CARD) // 2], b"no picture"])
def test_no_stream_begins_where_nothing_can_be_read(address, data):
    answer = post(f"{address}/v1/ocr?stream=true", content=data)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "picture_unreadable"


def test_events_are_lines_to_every_client(address):
    """Some split at whatever Python takes for the end of a line, and names may hold such."""
    name = "a\x85b\u2028c\u2029d.png"
    with httpx.stream(
        "POST", f"{address}/v1/ocr?stream=true", files={"file": (name, CARD)}, timeout=120
    ) as answer:
        assert answer.headers["x-accel-buffering"] == "no" and answer.headers["cache-control"] == "no-store"
        lines = [line for line in "".join(answer.iter_text()).splitlines() if line]
    assert lines.pop() == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert events[0] == {"type": "start", "file": name, "pages": 1}
    assert events[-2]["page"]["file"] == name


def test_a_container_is_asked_how_it_is_past_every_proxy(address):
    """Docker gives a container the proxies of its user, which know nothing of the container's own address."""
    text = (Path(__file__).parents[2] / "Dockerfile").read_text().replace("\\\n", "")
    command = json.loads(re.search(r"HEALTHCHECK .*CMD (\[.*\])", text)[1])
    code = command[2].replace("8000", address.rpartition(":")[2])
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    code = code.replace("/health", "/nothing")
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 1


def form(name: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n' % name
    return head + CARD + b"\r\n--x--\r\n"


@pytest.mark.parametrize(
    "charset",
    ["utf-7", "unicode_escape", "raw_unicode_escape", "punycode", "undefined", "utf-16", "no-such", "hex"],
)
def test_a_form_in_any_spelling_is_read_or_refused(address, charset, capfd):
    """Names in them may come out with halves of UTF-16 pairs, and codecs raise errors of several kinds."""
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    for query in ("", "?stream=true"):
        answer = post(f"{address}/v1/ocr{query}", content=form(b"\\ud800 +2AA- a.png"), headers=headers)
        assert answer.status_code in (200, 400)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("odd", [b"", b"\x01", b"\xef\xbf\xbe"])
def test_no_name_of_a_client_becomes_a_path(address, service, tmp_path, odd):
    """Formats leave out what XML forbids, and what was left of a name named a file of the server's."""
    secret = tmp_path / "secret.png"
    secret.write_bytes((CARDS / "card_3_lines_dark.png").read_bytes())
    name = os.fsencode(secret).replace(b".png", odd + b".png")
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = post(f"{address}/v1/ocr?format=pdf", content=form(name), headers=headers)
    assert answer.status_code == 200
    assert service.reader.read(answer.content).text == service.reader.read(CARD).text


def test_a_form_without_a_file_is_told_how_to_send_one(address):
    answer = post(f"{address}/v1/ocr", data={"file": "scan.pdf"}, files={"other": CARD})
    assert "as curl -F file=@scan.pdf does" in answer.json()["error"]["message"]
    answer = post(f"{address}/v1/ocr", files=[("file", CARD), ("file", CARD)])
    assert "Maximum number of files is 1): send the document as one part" in answer.json()["error"]["message"]
