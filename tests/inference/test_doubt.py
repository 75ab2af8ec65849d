"""A reading that the model was not made for says so."""

import json

import pytest
from PIL import Image

from nanoocr import Reader, cli
from nanoocr.image_process import MODES
from nanoocr.inference.assemble import PageReading
from nanoocr.inference.doubt import doubt_of_lines, doubt_of_view
from nanoocr.inference.engine import TokenCount
from scripts.dev.fuzz_seeds import tiny_model, write_model

VIEWS = ((128, 128), (64, 256))


@pytest.mark.parametrize("name", MODES)
def test_a_mode_is_known_by_the_views_or_by_the_training(name):
    mode = MODES[name]
    assert "never saw --mode=" + name in str(doubt_of_view((900, 700), VIEWS, mode, ()))
    assert doubt_of_view((900, 700), VIEWS, mode, (name,)) is None
    seen = doubt_of_view((900, 700), ((mode.side, mode.side),), mode, ())
    assert (seen is None) == (mode.tile == 0)


def test_a_picture_far_larger_than_what_is_seen():
    assert doubt_of_view((500, 500), VIEWS, None, ()) is None
    assert "8 times as large" in str(doubt_of_view((1024, 1024), VIEWS, None, ()))


@pytest.mark.parametrize(("kept", "left_out", "doubted"), [(9, 3, False), (0, 9, False), (2, 7, True)])
def test_a_page_of_which_most_is_left_out(kept, left_out, doubted):
    reading = PageReading((), 0, TokenCount(0, 0, 0), None, left_out=left_out, kept=kept)
    assert (doubt_of_lines(reading) is not None) == doubted


def test_the_status_and_stderr_tell(tmp_path, capsys):
    model = tmp_path / "model"
    model.mkdir()
    write_model(model, tiny_model(((128, 128),), 64))
    Image.new("RGB", (900, 900), "white").save(tmp_path / "large.png")
    Image.new("RGB", (128, 128), "white").save(tmp_path / "small.png")
    reader = Reader(model, device="cpu", dtype="float32")
    large, small = reader.read([tmp_path / "large.png", tmp_path / "small.png"], max_tokens=4)
    assert "7 times as large" in str(large.doubt) and small.doubt is None
    assert large.status == ("doubtful" if small.status == "ok" else small.status)
    assert json.loads(large.to_json())["doubt"] == large.doubt
    cli.main(["read", str(tmp_path / "large.png"), f"--model={model}", "--device=cpu"])
    told = capsys.readouterr().err
    assert "doubtful" in told or "cut off" in told
