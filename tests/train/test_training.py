"""Both stages end to end at the nano size, resuming bit for bit, and what a user can do wrong."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from nanoocr.commandline import run
from nanoocr.data.rows import read_rows
from nanoocr.data.source import SynthMix
from nanoocr.files import read_manifest, write_folder
from nanoocr.model.components import component_of
from nanoocr.model.folder import load_model, step_folder
from nanoocr.model.vlm import VLM
from nanoocr.train.checkpoint import best_step, load_state
from nanoocr.train.glyph import GlyphHeads
from nanoocr.train.setup import take_over_heads
from nanoocr.train.validate import keep_best, write_best
from scripts import vis_mid_train, vis_tok_train

SHORT = [
    "--preset=nano",
    "--batch_size=4",
    "--eval_samples=2",
    "--workers=0",
    "--threads=1",
    "--dtype=float32",
    "--average=0.5",
]


def stage_1(out: Path, *flags: str) -> int:
    return run(vis_tok_train.main, [*SHORT, f"--out={out}", *flags])


def stage_2(out: Path, *flags: str) -> int:
    return run(vis_mid_train.main, [*SHORT, f"--out={out}", *flags])


def weights(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def metrics(run_folder: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Stage 1 for four steps with a checkpoint at two, then stage 2 for three."""
    out = tmp_path_factory.mktemp("checkpoints")
    flags = ["--steps=4", "--save_every=2", "--eval_every=2", "--keep_last=0", "--log_every=1"]
    assert stage_1(out, "--run_name=tok", *flags) == 0
    encoder = out / "tok" / "deepencoder_000004.safetensors"
    # One rate for the word table, so that three steps cannot carry a fresh one far.
    flags = ["--steps=3", "--rates=wte:1", f"--resume_from_deepencoder={encoder}"]
    assert stage_2(out, "--run_name=mid", *flags) == 0
    return out


def copy_of_the_first_half(trained: Path, out: Path, name: str = "tok") -> Path:
    """The folder of stage 1 as it was after step 2: what an interrupted run leaves."""
    shutil.copytree(trained / "tok", out / name)
    shutil.rmtree(out / name / "step_000004")
    (out / name / "deepencoder_000004.safetensors").unlink()
    return out / name


# ---------------------------------------------------------------------------------------------------------
# the two stages


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


# ---------------------------------------------------------------------------------------------------------
# resuming


def flat(state: object, path: str = "") -> dict[str, object]:
    """Nested containers as {path: leaf}."""
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {path: state}
    return {name: leaf for key, value in items for name, leaf in flat(value, f"{path}/{key}").items()}


def differences(a: Path, b: Path) -> list[str]:
    """Names of all weights and of all training state that are not bit-equal."""
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    names = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    one, other = flat(load_state(a)), flat(load_state(b))
    assert one.keys() == other.keys()
    for name, value in one.items():
        equal = torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        names += [] if equal else [name]
    return names


def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(trained, tmp_path):
    copied = copy_of_the_first_half(trained, tmp_path)
    assert stage_1(tmp_path, "--run_name=tok", "--steps=4", "--resume=True") == 0
    assert differences(copied / "step_000004", trained / "tok" / "step_000004") == []
    names = [path / "deepencoder_000004.safetensors" for path in (copied, trained / "tok")]
    ours, theirs = (safetensors.torch.load_file(name) for name in names)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_the_comparison_above_can_fail(trained):
    assert len(differences(trained / "tok" / "step_000002", trained / "tok" / "step_000004")) > 100


def test_resume_of_a_run_that_does_not_exist_starts_it(tmp_path):
    assert stage_1(tmp_path, "--run_name=new", "--steps=1", "--eval_samples=0", "--resume=True") == 0
    assert (tmp_path / "new" / "step_000001").is_dir()


def refused(capsys, code: int, *words: str) -> None:
    """The last command said one sentence on stderr that holds `words`."""
    err = capsys.readouterr().err.strip()
    last = err.splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in err
    for word in words:
        assert word in last
    assert code in (2, 4)


def test_a_run_is_not_overwritten(trained, capsys):
    code = stage_1(trained, "--run_name=tok", "--steps=4")
    assert code == 2
    refused(capsys, code, "tok", "--resume")


def test_a_finished_run_wants_more_steps(trained, capsys):
    code = stage_1(trained, "--run_name=tok", "--steps=4", "--resume=True")
    assert code == 2
    refused(capsys, code, "--steps")


@pytest.mark.parametrize(
    "flags",
    [
        ["--preset=small"],
        ["--optimizer=adamw"],
        ["--recipe=deepseek"],
        ["--glyph_weight=0"],
    ],
)
def test_resuming_as_something_else_is_refused(trained, tmp_path, capsys, flags):
    copy_of_the_first_half(trained, tmp_path)
    code = stage_1(tmp_path, "--run_name=tok", "--steps=4", "--resume=True", *flags)
    assert code in (2, 4)
    refused(capsys, code, "step_000002")


def test_stage_2_does_not_resume_a_run_of_stage_1(trained, tmp_path, capsys):
    copy_of_the_first_half(trained, tmp_path)
    code = stage_2(tmp_path, "--run_name=tok", "--steps=4", "--resume=True")
    assert code in (2, 4)
    refused(capsys, code, "step_000002")


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    flags = ["--steps=3", "--save_every=1", "--keep_last=2", "--eval_samples=0", "--batch_size=1"]
    assert stage_1(tmp_path, "--run_name=r", *flags) == 0
    steps = sorted(path.name for path in (tmp_path / "r").glob("step_*"))
    assert steps == ["step_000002", "step_000003"]


ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "scripts.vis_tok_train", *SHORT, "--workers=1", "--log_every=1"]


def test_the_best_validation_is_kept_over_a_resume(tmp_path):
    """best.json names the best whose step is on the disk; the log says what was best of all."""

    def look(step: int, loss: float | None) -> tuple[int, float]:
        best = keep_best(tmp_path, step, math.nan if loss is None else loss)
        with open(tmp_path / "metrics.jsonl", "a") as log:
            log.write(json.dumps({"step": step, "event": "validation", "loss": loss}) + "\n")
        return best

    for step in (5, 10, 25, 30):
        write_folder(step_folder(tmp_path, step), {})
    assert math.isnan(look(5, None)[1]) and best_step(tmp_path) is None
    assert look(10, 0.5) == (10, 0.5)
    assert look(20, 0.4) == (20, 0.4) and best_step(tmp_path) == 10  # 20 was never saved
    assert look(30, 0.3) == (30, 0.3) and best_step(tmp_path) == 30
    assert look(25, 0.6) == (20, 0.4)  # the run went back behind step 30, and not behind step 20
    assert look(27, None) == (20, 0.4) and best_step(tmp_path) == 10
    shutil.rmtree(step_folder(tmp_path, 10))
    write_best(tmp_path, 27)
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 25, "loss": 0.6}


def test_a_validation_that_a_kill_took_is_made_up_for(trained, tmp_path):
    """In the middle of a run, and at its end, where there is nothing else to do."""
    flags = ["--save_every=2", "--eval_every=2", "--keep_last=0", "--log_every=1", "--run_name=tok"]
    run_folder = copy_of_the_first_half(trained, tmp_path)
    log = run_folder / "metrics.jsonl"
    lines = log.read_text().splitlines()
    done = [line for line in lines if json.loads(line)["step"] <= 2 and '"validation"' not in line]
    log.write_text("\n".join(done) + '\n{"step": 2, "eve')  # the kill cut a line as well
    (run_folder / ".step_000003.writing").mkdir()
    assert stage_1(tmp_path, "--steps=4", "--resume=True", *flags) == 0
    assert [line["step"] for line in validations(log)] == [2, 4]
    assert not list(run_folder.glob(".*.writing"))
    kept = [
        line for line in log.read_text().splitlines() if '"validation"' not in line or '"step": 4' not in line
    ]
    log.write_text("\n".join(kept) + "\n")
    assert stage_1(tmp_path, "--steps=4", "--resume=True", *flags) == 0
    assert [line["step"] for line in validations(log)] == [2, 4]
    assert stage_1(tmp_path, "--steps=4", "--resume=True", *flags) == 2


def test_a_run_that_goes_on_with_other_data_says_so(trained, tmp_path, capsys, monkeypatch):
    flags = ["--steps=3", "--resume=True", "--eval_samples=0", "--run_name=tok"]
    copy_of_the_first_half(trained, tmp_path)
    assert stage_1(tmp_path, *flags) == 0
    assert "other data" not in capsys.readouterr().err
    monkeypatch.setattr(SynthMix, "fingerprint", lambda source: {"synth": "of other fonts"})
    flags[0] = "--steps=4"
    assert stage_1(tmp_path, *flags) == 0
    assert "tok/step_000003 goes on with other data of synth" in capsys.readouterr().err


def validations(log: Path) -> list[dict]:
    """Of a log that may hold torn lines."""
    lines = [line for line in log.read_text().splitlines() if line.endswith("}")]
    return [record for record in map(json.loads, lines) if record["event"] == "validation"]


def test_the_first_validation_shows_what_a_run_starts_from(tmp_path):
    flags = ["--eval_first=True", "--eval_every=2", "--eval_tokens=4", "--run_name=tok"]
    assert stage_1(tmp_path, "--steps=2", *flags) == 0
    assert [line["step"] for line in metrics(tmp_path / "tok", "validation")] == [0, 2]
    shares = metrics(tmp_path / "tok", "train")[-1]["flop_shares"]
    assert set(shares) == {"sam", "compressor", "clip", "projector", "gpt"}
    assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_leaves(tmp_path, number):
    flags = [f"--out={tmp_path}", "--run_name=r", "--steps=100000", "--eval_samples=0"]
    process = subprocess.Popen([*COMMAND, *flags], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        log, deadline = tmp_path / "r" / "metrics.jsonl", time.monotonic() + 300
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.1)
            assert process.poll() is None, process.stderr.read()
        if number == signal.SIGTERM:  # a scheduler sends it to everybody, also to the process that loads
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for child in children.read_text().split() if children.is_file() else ():
                os.kill(int(child), number)
        process.send_signal(number)
        err = process.communicate(timeout=300)[1]
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err
    (folder,) = (tmp_path / "r").glob("step_*")
    step = read_manifest(folder)["step"]
    assert f"stopped at step {step}" in err
    assert load_state(folder)["step"] == step == metrics(tmp_path / "r", "train")[-1]["step"]
    load_model(folder)
    assert (tmp_path / "r" / f"deepencoder_{step:06d}.safetensors").exists()


# ---------------------------------------------------------------------------------------------------------
# wrong usage


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--stepz=3"], 2, ["--stepz"]),
        (["--steps=many"], 2, ["--steps"]),
        (["--steps=-1"], 2, ["--steps"]),
        (["--preset=huge"], 2, ["huge", "nano, small, d20"]),
        (["--recipe=magic"], 2, ["magic", "scratch"]),
        (["--mix=poem"], 2, ["--mix=poem"]),
        (["--mix=card:inf"], 2, ["--mix"]),
        (["--curriculum=1"], 2, ["--curriculum"]),
        (["--device=quantum"], 2, ["device 'quantum'", "--device=cpu"]),
        (["--data=nowhere.json"], 2, ["nowhere.json"]),
        (["--data=nowhere.csv"], 2, ["nowhere.csv"]),
        (["--tokenizer=nowhere.json"], 4, ["nowhere.json"]),
        (["--optimizer=sgd"], 2, ["--optimizer"]),
        (["--seed=1000000"], 2, ["--seed"]),
        (["--seed=-1"], 2, ["--seed"]),
        (["--max_length=5"], 2, ["max_length"]),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path, capsys, flags, code, words):
    assert stage_1(tmp_path, "--steps=2", "--eval_samples=0", *flags) == code
    refused(capsys, code, *words)
    assert not list(tmp_path.glob("**/step_*"))


def test_compile_where_it_does_not_work_is_refused_before_training(tmp_path, capsys, monkeypatch):
    def broken(function):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    assert stage_1(tmp_path, "--steps=2", "--compile=True") == 2
    refused(capsys, 2, "--compile", "no compiler")


def test_stage_2_requires_an_encoder(tmp_path, capsys):
    assert stage_2(tmp_path, "--steps=2") == 2
    refused(capsys, 2, "--resume_from_deepencoder")
    assert stage_2(tmp_path, "--steps=2", "--resume_from_deepencoder=nowhere.safetensors") == 4
    refused(capsys, 4, "nowhere.safetensors")


def test_init_starts_from_a_model_folder_and_trained_says_what_moves(trained, tmp_path, capsys):
    start = trained / "mid" / "step_000003"
    flags = ["--steps=1", "--eval_samples=0", "--save_every=1", f"--init={start}", "--run_name=fine"]
    assert stage_2(tmp_path, *flags, "--trained=sam,gpt") == 0
    before, after = weights(start), weights(tmp_path / "fine" / "step_000001")
    moved = {component_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"sam", "gpt"}
    assert stage_2(tmp_path, *flags, "--run_name=x", "--trained=sam,brain") == 2
    refused(capsys, 2, "--trained", "'brain'", "compressor")
    assert stage_2(tmp_path, *flags, "--run_name=x", "--preset=small") == 2
    refused(capsys, 2, "--init", "nano")
    assert stage_2(tmp_path, *flags, "--run_name=x", "--init=nowhere") == 4
    refused(capsys, 4, "nowhere")


def test_init_takes_over_the_glyph_heads_of_a_training_step(trained, tmp_path, capsys):
    start, encoder = trained / "mid" / "step_000003", trained / "tok" / "deepencoder_000004.safetensors"

    def heads(run_name: str) -> dict[str, Tensor]:
        return load_state(tmp_path / run_name / "step_000001")["heads"]

    flags = ["--steps=1", "--eval_samples=0", "--lr=0"]  # AdamW moves the heads: not with a rate of 0
    assert stage_2(tmp_path, *flags, "--run_name=goes_on", f"--init={start}") == 0
    assert f"glyph heads: those of {start}" in capsys.readouterr().err
    before, after = load_state(start)["heads"], heads("goes_on")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    # Another encoder was loaded: those heads do not know it.
    assert (
        stage_2(tmp_path, *flags, "--run_name=x", f"--init={start}", f"--resume_from_deepencoder={encoder}")
        == 0
    )
    assert "glyph heads" not in capsys.readouterr().err
    assert not torch.equal(heads("x")["token_head.weight"], before["token_head.weight"])


def test_heads_that_do_not_fit_stay_fresh_and_say_so(trained, tmp_path, make_model):
    small = GlyphHeads(make_model().config)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    assert "have another shape" in take_over_heads(small, trained / "mid" / "step_000003")
    assert "holds none" in take_over_heads(small, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_stage_2_refuses_an_encoder_of_another_preset(trained, tmp_path, capsys):
    encoder = trained / "tok" / "deepencoder_000004.safetensors"
    flags = ["--steps=2", "--preset=small", f"--resume_from_deepencoder={encoder}"]
    assert stage_2(tmp_path, *flags) == 4
    refused(capsys, 4, "deepencoder_000004", "'nano'", "'small'")


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        run(vis_mid_train.main, ["--help"])
    assert not caught.value.code
    text = capsys.readouterr().out
    assert all(
        f"--{flag}" in text for flag in ("steps", "text_ratio", "resume_from_deepencoder", "glyph_only")
    )
    # What follows a flag is its comment, which is lost where a formatter takes it off the field's line.
    assert not re.findall(r"--\w+ \S+[\s│]*\(default", text)


# ---------------------------------------------------------------------------------------------------------
# other data


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
