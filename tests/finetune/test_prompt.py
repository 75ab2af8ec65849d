"""A model that is asked something of its own is tuned, measured and handed over with that question."""

from __future__ import annotations

import pytest

from nanoocr.config import PROMPT
from nanoocr.finetune import blend as blending
from nanoocr.finetune import measure as measuring
from nanoocr.finetune.blend import blend
from nanoocr.finetune.measure import drawn_rows, measure
from nanoocr.finetune.task import Asking
from nanoocr.inference.reader import default_model_folder
from nanoocr.model.folder import load_model, load_prompt, save_model
from nanoocr.tasks.synth import Synth

OWN = "Free OCR."


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The packaged model, as if another question had been asked in its training."""
    folder = tmp_path_factory.mktemp("models") / "base"
    save_model(folder, *load_model(default_model_folder()), about={"prompt": OWN})
    return folder


def test_rows_ask_what_the_base_is_asked():
    drawn = Synth("strip", count=3)
    asked = Asking(drawn, OWN)
    assert [row.prompt for row in asked] == [OWN] * 3
    assert [row.answer for row in asked] == [row.answer for row in drawn]
    assert asked.fingerprint() != drawn.fingerprint()
    assert Asking(drawn, PROMPT).fingerprint() == drawn.fingerprint()


def test_lines_are_measured_with_the_question_of_the_model(base, monkeypatch):
    seen: list[str] = []

    def noted(model, tokenizer, rows, groups):
        seen.extend(row.prompt for row in rows)
        return ()

    monkeypatch.setattr(measuring, "read_rows", noted)
    measure(base, (), drawn_rows(2), "cpu")
    assert seen == [OWN] * 2


def test_the_blend_is_asked_what_its_base_is_asked(base, tmp_path, monkeypatch):
    monkeypatch.setattr(blending, "_drawn_cer", lambda *_: 0.1)
    blend(base, default_model_folder(), tmp_path / "blend", 8, "cpu")
    assert load_prompt(tmp_path / "blend") == OWN
