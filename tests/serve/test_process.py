"""The process that reads: it is another one than the one that answers, and its death costs little."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from PIL import Image  # noqa: E402

from nanoocr.errors import CheckpointError  # noqa: E402
from nanoocr.serve.process import Choice, ProcessDesk  # noqa: E402

CARD = Path(__file__).parents[2] / "assets" / "samples" / "card_1_line_dark.png"


def test_the_side_that_answers_needs_no_torch():
    code = "import nanoocr.serve.app, nanoocr.serve.process, sys; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_a_model_that_cannot_be_loaded_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        ProcessDesk(Choice(model=tmp_path))


def test_a_death_is_a_503_and_another_process_serves_on(service, served, tmp_path, caplog):
    frames = [Image.open(CARD).convert("RGB")] * 40
    path = tmp_path / "many.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    desk = ProcessDesk(Choice())
    try:
        with served(service, desk=desk) as (address, state):
            first = desk.process_id()
            killing = threading.Timer(0.7, os.kill, (first, signal.SIGKILL))
            killing.start()
            lost = httpx.post(f"{address}/v1/ocr", content=path.read_bytes(), timeout=60)
            assert (lost.status_code, lost.json()["error"]["code"]) == (503, "reader_lost")
            assert lost.headers["retry-after"]
            for _ in range(300):
                if httpx.get(f"{address}/ready").status_code == 200:
                    break
                time.sleep(0.1)
            answer = httpx.post(f"{address}/v1/ocr?format=txt", content=CARD.read_bytes(), timeout=60)
            assert answer.text.strip() == service.reader.read(CARD).text
            assert desk.process_id() != first and (state.inside, state.held) == (0, 0)
            assert "nanoocr_batch_rows 0.0" in httpx.get(f"{address}/metrics").text
    finally:
        desk.close()
    assert "has died (exit code -9)" in caplog.text
    assert desk.process_id() is None or not os.path.exists(f"/proc/{desk.process_id()}")


def test_a_desk_that_closes_ends_a_process_that_loads(capfd):
    """Otherwise Python waits for it at the end, forever, as it ignores signals."""
    before = set(multiprocessing.active_children())
    desk = ProcessDesk(Choice())
    first = desk.process_id()
    os.kill(first, signal.SIGKILL)
    for _ in range(300):
        if desk.process_id() is None and set(multiprocessing.active_children()) - before:
            break
        time.sleep(0.02)
    else:
        raise AssertionError("no second process was started")
    desk.close()
    assert set(multiprocessing.active_children()) <= before
    assert "does not start" not in capfd.readouterr().err


def test_how_full_the_decoder_is_can_be_asked_while_all_threads_are_busy(service):
    from nanoocr.serve.jobs import ThreadDesk
    from nanoocr.serve.messages import Job
    from nanoocr.serve.service import THREADS

    done, told = threading.Event(), []
    busy = [service.threads.submit(done.wait) for _ in range(THREADS)]
    try:
        ThreadDesk(service).begin(Job("look"), told.append)
        assert [reply.kind for reply in told] == ["head", "part", "end"]
    finally:
        done.set()
        for one in busy:
            one.result()
