"""What an address does not take is refused in one sentence that says what it does take."""

from __future__ import annotations

import io

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from PIL import Image  # noqa: E402

from nanoocr.serve.jobs import accepted_format  # noqa: E402


@pytest.fixture(scope="module")
def address(service, served):
    with served(service, max_body=2**20) as (url, _):
        yield url


def post(*arguments, **options):
    """httpx.post with patience: on a busy machine its five seconds are none."""
    return httpx.post(*arguments, **{"timeout": 120, **options})


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
