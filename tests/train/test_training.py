"""Both stages end to end at the nano size: what they leave behind, and data from files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from nanoocr.data.rows import read_rows
from nanoocr.files import read_manifest
from nanoocr.model.components import component_of
from nanoocr.model.folder import load_model
from nanoocr.model.vlm import VLM
from tests.train.stages import metrics, stage_1, stage_2, weights


def test_lines_longer_than_the_models_sequence_lengthen_it(tmp_path):
    """Also for the run that goes on, and for the one that starts from it without the flag."""
    flags = ["--batch_size=1", "--eval_samples=0", "--pack=True", "--run_name=tok"]
    assert stage_1(tmp_path, "--steps=1", "--max_length=700", *flags) == 0
    assert stage_1(tmp_path, "--steps=2", "--max_length=700", "--resume=True", *flags) == 0
    step = tmp_path / "tok" / "step_000002"
    flags = ["--batch_size=1", "--eval_samples=0", "--pack=True", "--run_name=mid"]
    assert stage_2(tmp_path, "--steps=1", f"--init={step}", *flags) == 0
    for folder in (step, tmp_path / "mid" / "step_000001"):
        assert load_model(folder)[0].config.gpt.sequence_len == 700


def test_stage_1_leaves_steps_and_encoders(trained):
    names = {path.name for path in (trained / "tok").iterdir()}
    assert names == {
        "step_000002",
        "step_000004",
        "deepencoder_000002.safetensors",
        "deepencoder_000004.safetensors",
        "metrics.jsonl",
        "best.json",
    }
    manifest = read_manifest(trained / "tok" / "step_000004")
    assert manifest["step"] == 4 and set(manifest["files"]) == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "training_state.pt",
    }
    about = json.loads((trained / "tok" / "step_000004" / "config.json").read_bytes())["about"]
    assert (about["stage"], about["step"], about["run"]["batch_size"]) == (1, 4, 4)


def test_the_encoder_file_is_the_vision_side_of_its_step(trained):
    encoder = safetensors.torch.load_file(trained / "tok" / "deepencoder_000004.safetensors")
    step = weights(trained / "tok" / "step_000004")
    assert encoder.keys() == {name[8:] for name in step if name.startswith("encoder.")}
    assert all(torch.equal(tensor, step[f"encoder.{name}"]) for name, tensor in encoder.items())


def test_everything_trains_in_stage_1(trained):
    before = VLM(load_model(trained / "tok" / "step_000004")[0].config)
    before.init_weights(0)
    after = weights(trained / "tok" / "step_000004")
    unmoved = [name for name, tensor in before.state_dict().items() if torch.equal(tensor, after[name])]
    assert unmoved == []


def test_stage_2_starts_from_the_encoder_and_keeps_sam_bit_for_bit(trained):
    encoder = safetensors.torch.load_file(trained / "tok" / "deepencoder_000004.safetensors")
    after = weights(trained / "mid" / "step_000003")
    moved = {name for name, tensor in encoder.items() if not torch.equal(tensor, after[f"encoder.{name}"])}
    parts = {component_of(f"encoder.{name}") for name in encoder if name not in moved}
    assert parts == {"sam", "compressor"}
    assert {component_of(f"encoder.{name}") for name in moved} == {"clip", "projector"}
    assert not any(name.startswith("sam_model.") for name in moved)


def test_stage_2_starts_from_a_fresh_gpt(trained):
    """Its first loss is that of a model that knows nothing: stage 1's would know a little."""
    first = weights(trained / "tok" / "step_000004")["gpt.lm_head.weight"]
    assert first.abs().sum() > 0  # stage 1 did train it
    fresh = VLM(load_model(trained / "mid" / "step_000003")[0].config)
    fresh.init_weights(0)
    start = fresh.gpt.state_dict()["transformer.wte.weight"]
    after = weights(trained / "mid" / "step_000003")["gpt.transformer.wte.weight"]
    assert (after - start).abs().max() <= 3 * 0.003 * 1.01  # three steps of AdamW from the fresh one
    assert not (trained / "mid" / "deepencoder_000003.safetensors").exists()


def test_metrics_are_json_lines_with_the_documented_numbers(trained):
    lines = metrics(trained / "tok", "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["loss"] == pytest.approx(math.log(266), abs=1e-3)  # a fresh GPT is uniform
    assert {"glyph_patch", "glyph_token", "lr", "samples_per_s", "tokens_per_s"} <= set(lines[0])
    assert all(math.isfinite(value) for line in lines for value in line.values() if type(value) is float)
    validations = metrics(trained / "tok", "validation")
    assert [line["step"] for line in validations] == [2, 4]
    assert {"loss", "cer", "overlap", "grounding_gap"} <= set(validations[0])


def test_nothing_goes_to_stdout(tmp_path, capsys):
    assert stage_1(tmp_path, "--steps=1", "--eval_samples=0") == 0
    out, err = capsys.readouterr()
    assert out == "" and "step 1/1" in err


def test_the_model_of_a_step_can_be_loaded(trained):
    model, tokenizer = load_model(trained / "mid" / "step_000003")
    ids = torch.tensor([[tokenizer.bos_id, *[tokenizer.image_id] * 11, tokenizer.user_end_id]])
    assert model(ids, views=torch.zeros(1, 3, 128, 256)).shape == (1, 13, 266)


@pytest.fixture
def ten(tmp_path) -> Path:
    """A JSON file of pictures without character boxes, as the ten samples have."""
    rng = np.random.default_rng(0)
    entries = []
    for i in range(3):
        array = rng.integers(0, 256, (60 + 30 * i, 120, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / f"{i}.png")
        entries.append(
            {"id": f"chart_{i}", "image": f"{i}.png", "prompt": f"Chart {i}?", "answer": f"is {i}"}
        )
    (tmp_path / "ten.json").write_text(json.dumps(entries))
    return tmp_path / "ten.json"


@pytest.mark.parametrize("flags", [["--eval_samples=2"], ["--eval_samples=0"]])
def test_training_on_a_file_without_boxes(ten, tmp_path, flags):
    assert stage_1(tmp_path, "--run_name=f", "--steps=2", f"--data={ten}", "--log_every=1", *flags) == 0
    lines = metrics(tmp_path / "f", "train")
    assert len(lines) == 2 and all(line["loss"] is not None for line in lines)
    assert (tmp_path / "f" / "step_000002").is_dir()
    wanted = 0 if flags == ["--eval_samples=0"] else 1
    assert len(metrics(tmp_path / "f", "validation")) == wanted


def test_validation_on_a_file_of_its_own(ten, tmp_path):
    """Every row's numbers are kept."""
    flags = ["--steps=1", "--batch_size=2", "--glyph_only=0", f"--eval_data={ten}", "--eval_samples=3"]
    assert stage_1(tmp_path, *flags, "--run_name=other") == 0
    (seen,) = metrics(tmp_path / "other", "validation")
    assert [row["id"] for row in seen["rows"]] == [row.id for row in read_rows(ten)][:3]
    assert all({"loss", "overlap", "cer"} <= set(row) for row in seen["rows"])


def test_one_validation_row_is_enough_or_refused_before_training(tmp_path):
    code = stage_1(tmp_path, "--run_name=r", "--steps=1", "--eval_samples=1", "--batch_size=1")
    assert (tmp_path / "r" / "step_000001").is_dir() == (code == 0)
    assert code == 0 or not (tmp_path / "r" / "metrics.jsonl").exists()


def test_glyph_loss_alone_needs_boxes(ten, tmp_path, capsys):
    """Refused, or trained on something: never a traceback."""
    code = stage_1(tmp_path, "--steps=1", "--glyph_only=1", f"--data={ten}", "--eval_samples=0")
    assert code in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_text_alone(trained, tmp_path):
    """Rows without pictures train the GPT and leave the encoder as it is."""
    encoder = trained / "tok" / "deepencoder_000004.safetensors"
    flags = [f"--resume_from_deepencoder={encoder}", "--text_ratio=1.0", "--eval_samples=0"]
    assert stage_2(tmp_path, "--run_name=t", "--steps=2", *flags) == 0
    after = weights(tmp_path / "t" / "step_000002")
    before = safetensors.torch.load_file(encoder)
    assert all(torch.equal(tensor, after[f"encoder.{name}"]) for name, tensor in before.items())
    assert after["gpt.lm_head.weight"].abs().sum() > 0
