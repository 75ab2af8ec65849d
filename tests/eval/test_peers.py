"""Other engines: adapters against stand-ins and, where installed, the real ones; cost; the comparison."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import types

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from nanoocr.commandline import run
from nanoocr.errors import UsageError
from nanoocr.eval import cost, peers
from nanoocr.eval.peers import PEERS, PeerError, RapidOCR, Tesseract, lines_of_boxes, make_peer
from nanoocr.eval.samples import EvalSample
from nanoocr.model.folder import save_model
from scripts import peers as script
from tests.eval.test_vision_eval import TEXTS, Sighted, shade

STAND_IN = """#!/bin/sh
case "$1" in
  --version) echo "tesseract 9.9"; echo " leptonica";;
  --list-langs) printf 'List of available languages in "{folder}" (1):\\neng\\n';;
  *) cat > "{folder}/given.png"; echo "$@ limit=$OMP_THREAD_LIMIT"; echo; echo end; {then};;
esac
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """stand_in(then) puts a program called tesseract first on the path that tells how it was called."""

    def install(then: str = "exit 0") -> Tesseract:
        program = tmp_path / "tesseract"
        program.write_text(STAND_IN.format(folder=tmp_path, then=then))
        program.chmod(0o755)
        (tmp_path / "eng.traineddata").write_bytes(b"12345")
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return Tesseract()

    return install


def printed(text: str, size: int = 40) -> Image.Image:
    image = Image.new("RGB", (520, 130), "white")
    ImageDraw.Draw(image).multiline_text((20, 20), text, "black", ImageFont.load_default(size))
    return image


# tesseract


def test_tesseract_gets_its_mode_one_thread_and_a_doubled_small_picture(stand_in, tmp_path):
    peer = stand_in()
    text = peer.read(Image.new("RGB", (30, 20)), "table")
    assert text == "stdin stdout -l eng --psm 4 txt limit=1\nend"  # empty lines go
    assert Image.open(tmp_path / "given.png").size == (60, 40)
    assert "--psm 6 " in peer.read(Image.new("RGB", (600, 500)), "receipt")
    assert Image.open(tmp_path / "given.png").size == (600, 500)
    about = peer.about()
    assert (about["version"], about["weights_bytes"], about["psm"]["others"]) == ("9.9", 5, 6)


def test_tesseract_failures_are_errors_of_the_page(stand_in, monkeypatch):
    peer = stand_in("echo no such thing >&2; exit 3")
    with pytest.raises(PeerError, match="code 3: no such thing"):
        peer.read(Image.new("RGB", (30, 20)), "card")
    slow = stand_in("sleep 30")
    monkeypatch.setattr(peers, "TIMEOUT", 0.2)
    with pytest.raises(PeerError, match="took more than"):
        slow.read(Image.new("RGB", (30, 20)), "card")


def test_a_missing_tesseract_or_language_says_how_to_install_it(stand_in, tmp_path, monkeypatch):
    stand_in()
    with pytest.raises(UsageError, match="apt-get install tesseract-ocr-deu"):
        Tesseract(language="deu")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UsageError, match="apt-get install tesseract-ocr tesseract-ocr-eng"):
        make_peer("tesseract")


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_the_real_tesseract_reads():
    assert make_peer("tesseract").read(printed("Hello there\nroom 42"), "card") == "Hello there\nroom 42"


# rapidocr


def test_boxes_become_lines_from_top_left():
    def box(x, y, width=10, height=10):
        return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]

    boxes = np.array([box(50, 2), box(0, 20), box(0, 0), box(30, 23), box(0, 40, height=30), box(40, 66)])
    assert lines_of_boxes(boxes, ["b", "c", "a", "d", "e", "f"]) == ["a b", "c d", "e", "f"]
    assert lines_of_boxes(np.zeros((0, 4, 2)), []) == []


def fake_rapidocr(answer):
    """A module whose engine keeps its parameters and answers with a function of the picture."""

    class Engine:
        def __init__(self, params):
            module.params = params

        def __call__(self, image):
            return answer(image)

    module = types.ModuleType("rapidocr")
    module.RapidOCR, module.__file__ = Engine, __file__
    return module


def test_rapidocr_is_set_up_without_its_classifier_and_with_one_thread(monkeypatch):
    empty = types.SimpleNamespace(boxes=None, txts=None)
    module = fake_rapidocr(lambda image: empty)
    monkeypatch.setitem(sys.modules, "rapidocr", module)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    peer = RapidOCR(threads=1)
    assert module.params["Global.use_cls"] is False
    assert module.params["EngineConfig.onnxruntime.intra_op_num_threads"] == 1
    assert peer.read(Image.new("RGB", (9, 9)), "card") == ""
    assert peer.about()["direction_classifier"] is False

    def fail(image):
        raise ZeroDivisionError("inside")

    peer.engine = fail
    with pytest.raises(PeerError, match="ZeroDivisionError: inside"):
        peer.read(Image.new("RGB", (9, 9)), "card")


def test_rapidocr_takes_its_options_once_and_reads_lines_without_looking_for_boxes(monkeypatch):
    line = types.SimpleNamespace(boxes=None, txts=("TOTAL", "9.90"))
    module = fake_rapidocr(lambda image: line)
    monkeypatch.setitem(sys.modules, "rapidocr", module)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    assert "Det.limit_type" not in make_peer("rapidocr").about().get("options", {})
    fair = make_peer("rapidocr_960", threads=2)
    assert module.params["Det.limit_type"] == "max" and module.params["Det.limit_side_len"] == 960
    assert module.params["EngineConfig.onnxruntime.intra_op_num_threads"] == 2
    assert fair.about()["options"] == {"Det.limit_type": "max", "Det.limit_side_len": 960}
    peer = make_peer("rapidocr_line")
    assert module.params["Global.use_det"] is False
    assert peer.read(Image.new("RGB", (9, 9)), "line") == "TOTAL 9.90"


def test_a_missing_rapidocr_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(UsageError, match=r"nano-deepseek-ocr\[peers\]"):
        make_peer("rapidocr")


def test_the_real_rapidocr_reads():
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    peer = make_peer("rapidocr")
    assert peer.read(printed("Hello there\nroom 42"), "card") == "Hello there\nroom 42"
    assert peer.about()["weights_bytes"] > 1_000_000


# faster-paddle


def fake_faster_paddle(answer):
    """A module whose engine answers with a function of the file's bytes."""

    class OcrEngine:
        def __init__(self, **settings):
            module.settings = settings

        def ocr(self, data):
            return answer(data)

    module = types.ModuleType("faster_paddle")
    module.OcrEngine = OcrEngine
    return module


def test_faster_paddle_gets_a_png_and_its_drawn_page_becomes_lines(monkeypatch):
    def answer(data):
        assert Image.open(io.BytesIO(data)).size == (30, 20)
        return {"structured_text": "   one    two\n\n\n  three\n"}

    module = fake_faster_paddle(answer)
    monkeypatch.setitem(sys.modules, "faster_paddle", module)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    peer = make_peer("ppocr_small", threads=2)
    assert module.settings == {"model_size": "small", "threads": 2} and peer.name == "ppocr_small"
    assert peer.read(Image.new("RGB", (30, 20)), "card") == "one two\nthree"
    with pytest.raises(PeerError, match="ppocr_small: AssertionError"):
        peer.read(Image.new("RGB", (9, 9)), "card")
    assert peer.about()["weights_bytes"] > make_peer("ppocr_tiny").about()["weights_bytes"]


def test_a_missing_faster_paddle_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_paddle", None)
    with pytest.raises(UsageError, match=r"nano-deepseek-ocr\[peers\]"):
        make_peer("ppocr_tiny")


def test_the_real_ppocr_tiny_reads():
    pytest.importorskip("faster_paddle")
    assert make_peer("ppocr_tiny").read(printed("Hello there\nroom 42"), "card") == "Hello there\nroom 42"


def test_unknown_peers_are_named():
    with pytest.raises(UsageError, match=r"'acrobat'.*tesseract, rapidocr"):
        make_peer("acrobat")


# cost


def test_cost_counts_pages_failures_and_time(tmp_path, monkeypatch):
    monkeypatch.setitem(PEERS, "sighted", lambda threads: Sighted((None, *TEXTS[1:])))
    for i in range(3):
        shade(i).save(tmp_path / f"{i:04d}.card.png")
    found = cost.read_folder("sighted", tmp_path, 1, "Read.")
    assert (found.pages, found.failed, found.threads) == (3, 1, 1)
    assert found.seconds_per_page > 0 and found.start_seconds > 0
    assert found.peak_bytes > 10_000_000
    (tmp_path / "0001.card.png").unlink(), (tmp_path / "0002.card.png").unlink()
    with pytest.raises(UsageError, match="two pictures"):
        cost.read_folder("sighted", tmp_path, 1, "Read.")


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_cost_is_measured_in_a_process_of_its_own(tmp_path):
    samples = [EvalSample(str(i), printed("Hello there"), "Read.", "", "card") for i in range(2)]
    samples.append(EvalSample("broken", tmp_path / "none.png", "Read.", "", "card"))
    found = cost.measure_cost("tesseract", samples)
    assert found.pages == 2 and found.failed == 0
    assert found.peak_bytes < 300_000_000  # no torch in that process
    with pytest.raises(UsageError, match=r"cost of tesseract cannot be measured: .*two pictures"):
        cost.measure_cost("tesseract", samples[2:])


# the comparison


@pytest.fixture
def manifest(tmp_path):
    """Four cards and a question as a manifest."""
    rows = []
    for i, text in enumerate(TEXTS):
        shade(i).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(text)
        rows.append(
            {"dataset": "cards", "id": str(i), "kind": "card", "image": f"{i}.png", "text": f"{i}.txt"}
        )
    (tmp_path / "qa.json").write_text('[{"query": "Who?", "label": "Ann"}]')
    rows.append({"dataset": "cards", "id": "q", "kind": "card", "image": "0.png", "text": "qa.json"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_peers_writes_tables_of_every_engine(manifest, monkeypatch, make_model, byte_tokenizer, capsys):
    model = manifest / "model"
    save_model(model, make_model(sequence_len=512), byte_tokenizer)
    monkeypatch.setitem(PEERS, "sighted", lambda threads: Peer())
    monkeypatch.setitem(PEERS, "absent", absent)
    monkeypatch.setattr(
        script, "measure_cost", lambda engine, samples, threads: cost.Cost(2, 0, 1.0, 0.5, 10**8, 1)
    )
    out, markdown = manifest / "out", manifest / "docs" / "results.md"
    flags = [f"--engines={model},sighted,absent", f"--out={out}", f"--markdown={markdown}", "--per_kind=2"]
    flags += [f"--manifest={manifest}", "--kinds=card", "--cost_pages=2", "--max_tokens=3"]
    assert run(script.main, flags) == 0
    printed, said = capsys.readouterr()
    data = json.loads(printed.splitlines()[-1])
    assert data == json.loads((out / "peers.json").read_text())
    assert set(data["sets"]) == {"synthetic", "manifest"} and set(data["absent"]) == {"absent"}
    groups = data["sets"]["manifest"]["engines"]["sighted"]["groups"]
    assert (
        groups["cards: card"]["pages"] == 4 and groups["all"]["scores"]["plain_word_f1"]["gap_wrong"] == 1.0
    )
    text = markdown.read_text()
    assert "| cards: card | 4 | sighted | 0.0% | 0.0% | 0.0% | 100.0% | 1.000 | 1.000-1.000 | 1.000 |" in text
    assert f"{model} loses in: all, cards: card." in text
    assert "absent was not measured: install it" in text and "100 MB" in text
    assert "--max_tokens=3" in text and "scripts.peers" in text
    assert "absent is left out: install it" in said


class Peer(Sighted):
    name = "sighted"

    def about(self):
        return {"version": "1", "weights_bytes": 7}


def absent(threads):
    raise UsageError("install it")


def test_a_tie_is_no_loss_and_nothing_read_is_no_lead():
    def groups(score):
        return {"groups": {"all": {"scores": {"f1": {"mean": score}}}}}

    lines = script.verdict({"engines": {"a": groups(0.5), "b": groups(0.5)}})
    assert lines == ["a has the best score in: all.", "b has the best score in: all.", "a loses in: nothing."]
    assert script.verdict({"engines": {"a": groups(0.5)}}) == []
    assert script.verdict({"engines": {"a": groups(0.0), "b": groups(0.0)}}) == [
        "a has the best score in: nothing.",
        "b has the best score in: nothing.",
        "a loses in: nothing.",
        "No engine has read a word in: all.",
    ]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--per_kind=1"], "--per_kind"),
        (["--cost_pages=1"], "--cost_pages"),
        (["--engines=absent"], "no engine can be used: install it"),
        (["--engines=absent,sighted", "--kinds=poem"], "poem"),
    ],
)
def test_peers_mistakes(flags, named, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(PEERS, "absent", absent)
    monkeypatch.setitem(PEERS, "sighted", lambda threads: Peer())
    assert run(script.main, [f"--out={tmp_path}", "--markdown=", *flags]) == 2
    assert named in capsys.readouterr().err.splitlines()[-1]
