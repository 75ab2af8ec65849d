"""A model that goes on at other picture sizes: the same function there, resized tables, clear refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nanoocr.commandline import run
from nanoocr.config import CELL, PATCH, nano
from nanoocr.errors import CheckpointError, UsageError
from nanoocr.model.folder import load_deepencoder, load_model
from nanoocr.model.resize import format_views, parse_views, with_views
from nanoocr.model.vlm import VLM
from scripts import vis_mid_train, vis_tok_train

WIDE = ((128, 192), (192, 192))
SHORT = ["--steps=1", "--batch_size=2", "--eval_samples=0", "--workers=0", "--threads=1", "--dtype=float32"]


def tables(model: VLM) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if "pos" in name}


def test_views_are_heights_and_widths():
    assert parse_views("192x384,256x256") == ((192, 384), (256, 256))
    assert parse_views("") == () and format_views(WIDE) == "128x192,192x192"
    for text in ("192", "192x", "192x384,", "192x384 256x256", "0x64", "-64x64", "64x64x3", "64X64"):
        with pytest.raises(UsageError, match="--views="):
            parse_views(text)


@pytest.mark.parametrize("views", [WIDE, ((64, 64),), ((128, 64),)])
def test_the_model_computes_what_it_did_at_the_new_view(tiny_model, views):
    """64 x 128 -> 128 x 64 has as many places in another shape, which no comparison of sizes shows."""
    other = with_views(tiny_model, views)
    pixels = torch.rand(2, 3, *views[0]) * 2 - 1
    with torch.no_grad():
        assert torch.equal(other.encode(pixels), tiny_model.encode(pixels))


def test_tables_and_sizes_fit_the_first_view(tiny_model):
    other = with_views(tiny_model, WIDE)
    assert other.config.views == WIDE
    assert other.config.sam.grid == (128 // PATCH, 192 // PATCH) and other.config.clip.grid == (2, 3)
    assert tables(other) == tables(VLM(other.config))
    before, after = tables(tiny_model), tables(other)
    window = [name for name in before if "blocks.0" in name]  # windows keep their size
    assert window and all(before[name] == after[name] for name in window)
    assert sum(before[name] != after[name] for name in before) == 4  # two of SAM's block, its grid, CLIP's


def test_the_old_views_change_nothing(tiny_model):
    other = with_views(tiny_model, tiny_model.config.views)
    assert other.config == tiny_model.config
    before, after = tiny_model.state_dict(), other.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_first_model_stays_as_it_was(tiny_model):
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    sizes = tiny_model.config
    other = with_views(tiny_model, WIDE)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert tiny_model.config == sizes
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())


def test_a_run_goes_on_at_other_views(tmp_path, capsys):
    flags = [*SHORT, f"--out={tmp_path}"]
    assert run(vis_tok_train.main, [*flags, "--run_name=tok"]) == 0
    start = tmp_path / "tok" / "step_000001"
    flags.append(f"--init={start}")
    assert run(vis_mid_train.main, [*flags, "--run_name=mid", "--views=128x256,256x256"]) == 0
    config = load_model(tmp_path / "mid" / "step_000001")[0].config
    assert config.views == ((128, 256), (256, 256))
    assert config == replace(nano(), views=config.views, sam=config.sam, clip=config.clip)
    assert (config.sam.grid, config.clip.grid) == ((128 // PATCH, 256 // PATCH), (128 // CELL, 256 // CELL))
    again = [*flags, "--run_name=mid", "--views=128x256,256x256", "--resume=True", "--steps=2"]
    assert run(vis_mid_train.main, again) == 0
    assert load_model(tmp_path / "mid" / "step_000002")[0].config == config
    assert run(vis_mid_train.main, [*again[:-1], "--steps=3", "--views=64x128"]) == 2
    assert "was trained with --views=128x256,256x256" in capsys.readouterr().err
    for views in ("wide", "100x200", "8192x64"):
        assert run(vis_mid_train.main, [*flags, "--run_name=x", f"--views={views}"]) == 2
        said = capsys.readouterr().err.strip()
        assert said.splitlines()[-1].startswith("error: ") and "view" in said.splitlines()[-1]


def test_a_run_from_nothing_has_the_views_that_it_is_given(tmp_path):
    flags = [*SHORT, f"--out={tmp_path}", "--run_name=tok"]
    assert run(vis_tok_train.main, [*flags, "--views=128x256,256x256"]) == 0
    config = load_model(tmp_path / "tok" / "step_000001")[0].config
    assert config.views == ((128, 256), (256, 256)) and config.clip.grid == (2, 4)


def test_an_encoder_for_other_views_names_the_flag(tmp_path, capsys):
    flags = [*SHORT, f"--out={tmp_path}"]
    assert run(vis_tok_train.main, [*flags, "--run_name=tok", "--views=128x256"]) == 0
    encoder = tmp_path / "tok" / "deepencoder_000001.safetensors"
    flags.append(f"--resume_from_deepencoder={encoder}")
    assert run(vis_mid_train.main, [*flags, "--run_name=mid"]) == 4
    assert "this run is for 192x384,256x256: give --views=128x256" in capsys.readouterr().err
    assert run(vis_mid_train.main, [*flags, "--run_name=mid", "--views=128x256"]) == 0
    wide = replace(nano(), sam=replace(nano().sam, heads=4))
    with pytest.raises(CheckpointError, match="other sizes than that preset"):
        load_deepencoder(encoder, VLM(wide))
