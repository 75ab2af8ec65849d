"""A real process of `nanoocr serve`: SIGTERM finishes what runs, and a mistake in a flag is a sentence."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from PIL import Image  # noqa: E402

FORM = {"content-type": "multipart/form-data; boundary=frontier"}
ODD_FORM = b"--frontier\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--frontier--\r\nmore and more"
CARD = Path(__file__).parents[2] / "assets" / "samples" / "card_1_line_dark.png"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def pages(count):
    out = io.BytesIO()
    frames = [Image.open(CARD).convert("RGB")] * count
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def start(port):
    command = [sys.executable, "-m", "nanoocr", "serve", f"--port={port}"]
    # pytest may have been started with Ctrl-C ignored, which children inherit
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert "serving nanoocr" in process.stderr.readline()
    return process


def test_a_second_ctrl_c_ends_what_runs_without_a_traceback():
    """The first one ends a body that does not come, and lets a document be read on."""
    port = free_port()
    process = start(port)
    try:
        address = f"http://127.0.0.1:{port}/v1/ocr?stream=true"
        with httpx.stream("POST", address, content=pages(150), timeout=120) as answer:
            lines = answer.iter_lines()
            assert '"start"' in next(lines)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
                link.sendall(b"POST /v1/ocr HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
                time.sleep(0.3)  # until the server waits for the rest
                process.send_signal(signal.SIGINT)
                assert link.recv(12) == b"HTTP/1.1 503"
            process.send_signal(signal.SIGINT)
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert process.wait(timeout=60) == 130
        said = process.stderr.read()
        assert "Traceback" not in said and "the server was stopped at once" in said
    finally:
        process.kill()
        process.wait()


def test_sigterm_finishes_what_runs_without_a_word():
    port = free_port()
    process = start(port)
    try:
        for _ in range(200):
            with socket.socket() as link:
                if link.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        address = f"http://127.0.0.1:{port}/v1/ocr?stream=true"
        with httpx.stream("POST", address, content=pages(8), timeout=120) as answer:
            lines = answer.iter_lines()
            assert '"start"' in next(lines)
            odd = httpx.post(f"http://127.0.0.1:{port}/v1/ocr", content=ODD_FORM, headers=FORM, timeout=60)
            assert odd.status_code == 400
            process.send_signal(signal.SIGTERM)
            sent = [line for line in lines if line]
        assert sum('"type": "page"' in line for line in sent) == 8 and sent[-1] == "data: [DONE]"
        # uvicorn ends by the signal that it was sent, once everything is done.
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
        assert process.stderr.read() == ""  # nor does the library of forms say anything about the odd one
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--host=", "the name is empty"),
        ("--host=nowhere.invalid", "try --host=127.0.0.1"),
        ("--host=192.0.2.7", "try --host=127.0.0.1"),
        ("--port=70000", "try --port=8001"),
        ("--model=", "the name is empty"),
        ("--allow_fetch=http://a", "is no host"),
        ("--port=0", "positive"),
    ],
)
def test_flags_that_are_wrong_are_told(flag, says, capsys):
    from nanoocr.cli import main

    assert main(["serve", flag]) == 2
    assert says in capsys.readouterr().err


def test_closed_standard_files_are_opened_before_sockets_get_their_numbers():
    code = "from nanoocr.commandline import run; run(lambda _: None, []); import os, sys; " + (
        "file = os.open(os.devnull, os.O_RDONLY); os._exit(file)"
    )
    command = f"exec '{sys.executable}' -c \"{code}\" <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode > 2


def test_as_many_clients_as_files_may_be_open():
    """The soft limit is raised to what the system allows, and a low hard one limits the clients."""
    code = (
        "import resource; from nanoocr.serve.connection import most_connections; "
        "limit = resource.RLIMIT_NOFILE; resource.setrlimit(limit, (40, 100)); most = most_connections(); "
        "print(most, resource.getrlimit(limit)[0])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "76 100\n"


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(capsys):
    from nanoocr.cli import main
    from nanoocr.cli.serve import listen

    port = free_port()
    with listen("127.0.0.1", port):  # as the first server does, from its start on
        assert main(["serve", f"--port={port}"]) == 2
    assert "nothing can listen there (Address already in use): try --port=8001" in capsys.readouterr().err


def test_keys_as_editors_save_them(tmp_path):
    from nanoocr.cli.serve import read_keys
    from nanoocr.errors import UsageError

    (tmp_path / "keys").write_bytes("\ufeffone\r\n\r\n two \r\n".encode())
    assert read_keys(tmp_path / "keys") == ("one", "two")
    (tmp_path / "keys").write_bytes("one".encode("utf-16"))
    with pytest.raises(UsageError, match="is no text in UTF-8"):
        read_keys(tmp_path / "keys")
