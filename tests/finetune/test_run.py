"""The whole command on a few documents: base kept where nothing is gained, and gone on with where stopped."""

import json

import pytest

from nanoocr.cli import main
from nanoocr.files import read_folder
from nanoocr.finetune import run as module
from nanoocr.finetune.measure import Verdict
from nanoocr.finetune.plan import FinetuneConfig
from nanoocr.inference.reader import Reader, default_model_folder
from tests.finetune.drawn import document


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Eight documents with their texts."""
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(1, 9):
        page, lines, _ = document(seed)
        page.save(folder / f"{seed}.png")
        (folder / f"{seed}.txt").write_text("\n".join(lines))
    return folder


def flags(scans, out):
    small = ("--steps=2", "--eval_every=1", "--batch_size=4", "--eval_drawn=8", "--threads=1")
    return ["finetune", str(scans), f"--out={out}", *small]


@pytest.mark.slow
def test_no_gain_keeps_the_base_and_the_same_command_goes_on(scans, tmp_path, capsys, monkeypatch):
    out = tmp_path / "model"
    # Two steps on clean pages gain nothing.
    assert main([*flags(scans, out), "--lr=1e-9", "--muon_lr=1e-9"]) == 10
    said = capsys.readouterr().err
    assert "holds the base model's weights" in said and "hold-out, 2 documents: CER" in said
    base = Reader(default_model_folder()).model.state_dict()
    kept = Reader(out).model.state_dict()
    assert all((base[name] == kept[name]).all() for name in base)
    files = read_folder(out)
    assert b"Fine-tuning: before and after" in files["report.html"]
    assert b"| train | 5 |" in files["MODEL_CARD.md"] and not json.loads(files["finetune.json"])["tuned"]
    # The second call neither cuts nor trains nor measures again.
    (tmp_path / "model.work" / "trained.json").unlink()  # as by a kill after the last validation
    for name in ("cut_document", "run_stage", "measure"):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("done again"))
    assert main([*flags(scans, out), "--lr=1e-9", "--muon_lr=1e-9", "--accept_worse"]) == 0
    assert json.loads((out / "finetune.json").read_bytes())["tuned"]
    assert main([*flags(scans, out), "--lr=0.1"]) == 2
    assert "other flags" in capsys.readouterr().err


@pytest.mark.slow
def test_shuffled_texts_are_refused_before_training(scans, tmp_path, capsys, monkeypatch):
    texts = sorted(scans.glob("*.txt"))
    for picture, text in zip(sorted(scans.glob("*.png")), [*texts[1:], texts[0]]):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
        (tmp_path / picture.name).with_suffix(".txt").write_text(text.read_text())
    monkeypatch.setattr(module, "run_stage", lambda *_: pytest.fail("trained"))
    out = tmp_path.parent / f"{tmp_path.name}-model"
    assert main(flags(tmp_path, out)) == 11
    assert "8 of 8 texts do not belong to their pictures" in capsys.readouterr().err and not out.exists()


def test_a_folder_of_something_else_is_not_overwritten(scans, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(flags(scans, tmp_path)) == 2
    assert "is no model folder" in capsys.readouterr().err


def test_the_verdict_is_good_without_reasons():
    config = FinetuneConfig(data="a", out="b")
    assert Verdict(None, None, ()).better and not Verdict(None, None, ("x",)).better and config.drawn == 0.5
