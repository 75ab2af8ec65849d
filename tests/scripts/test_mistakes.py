"""A wrong flag, a missing file or an unknown name costs each script one sentence and exit code 2, at once."""

from importlib import import_module
from pathlib import Path

import pytest

from nanoocr.commandline import run
from tests.batch import crash

ROOT = Path(__file__).parents[2]
PICTURE = str(ROOT / "assets" / "samples" / "card_1_line_dark.png")
NOTES = str(ROOT / "examples" / "text")

MISTAKES = [
    ("scale", ["--bogus=1"], "unknown flag --bogus"),
    ("scale", ["--workers=0"], "--workers=0"),
    ("scale", ["--workers=many"], "--workers"),
    ("scale", ["--storage_bandwidth=0"], "--storage_bandwidth=0"),
    ("scale", ["--measured=nowhere"], "nowhere"),
    ("scale", [f"--measured={ROOT / 'docs' / 'pages.json'}"], "pages.json"),
    ("bench.batch", [], "compare or measure"),
    ("bench.batch", ["race"], "race"),
    ("bench.batch", ["compare", "--bogus=1"], "unknown flag --bogus"),
    ("bench.batch", ["compare", "--files", "nowhere.png"], "nowhere.png"),
    ("bench.batch", ["compare", "--files", PICTURE], "at least two"),
    ("bench.batch", ["compare", "--files", PICTURE, PICTURE, "--engines=pool3"], "pool3"),
    ("bench.batch", ["measure", "--files", "nowhere.png"], "nowhere.png"),
    ("bench.lines", ["--bogus=1"], "unknown flag --bogus"),
    ("bench.lines", ["--data=nowhere"], "nowhere"),
    ("bench.lines", ["--pages=0"], "--pages=0"),
    ("bench.lines", [f"--data={ROOT / 'docs'}", "--truth=pages.json"], "pages.json"),
    ("bench.resume", ["--bogus=1"], "unknown flag --bogus"),
    ("bench.resume", ["--says=0"], "--says=0"),
    ("bench.resume", ["--documents=2"], "--documents=2"),
    ("bench.sleeper", ["--bogus=1"], "unknown flag --bogus"),
    ("bench.sleeper", ["--engines=pool"], "--engines=pool"),
    ("bench.sleeper", ["--pages=0"], "--pages"),
    ("bench.boxes", ["--pages=0"], "--pages=0"),
    ("bench.boxes", ["--enlarged=0"], "--enlarged=0"),
    ("bench.drafts", ["--repeats=0"], "--repeats=0"),
    ("bench.engine", ["--cards=0"], "--cards=0"),
    ("bench.engine", ["--repeats=0"], "--repeats=0"),
    ("bench.linear", ["--repeats=0"], "--repeats=0"),
    ("bench.linear", ["--threads=-1"], "--threads=-1"),
    ("bench.reading", ["--before=nowhere"], "nowhere"),
    ("bench.reading", ["--repeats=0"], "--repeats=0"),
    ("bench.start", ["--picture=nowhere.png"], "nowhere.png"),
    ("bench.start", [f"--picture={PICTURE}", "--before=nowhere"], "nowhere"),
    ("bench.start", [f"--picture={PICTURE}", "--repeats=0"], "--repeats=0"),
    ("bench.serve", ["--file=nowhere.png"], "nowhere.png"),
    ("bench.serve", [f"--file={PICTURE}", "--clients=0"], "--clients=0"),
    ("bench.serve", [f"--file={PICTURE}", "--rounds=0"], "--rounds=0"),
    ("bench.serve", [f"--file={PICTURE}", "--pdf=nowhere.pdf"], "nowhere.pdf"),
    ("bench.serve_mixed", ["--folder=nowhere"], "nowhere"),
    ("bench.serve_mixed", ["--requests=0"], "--requests=0"),
    ("bench.serve_mixed", ["--bad=2"], "--bad"),
    ("dev.fuzz", ["--seconds=0"], "--seconds"),
    ("dev.make_style", [], "--out"),
    ("dev.make_style", ["--out=out", "--rows=0"], "--rows=0"),
    ("dev.make_style", ["--out=out", f"--font={ROOT / 'README.md'}"], "README.md"),
    ("dev.ship_model", [], "--checkpoint"),
    ("gpu.read", ["--device=cpu", "--preset=nano", "--tokens=0"], "--tokens=0"),
    ("gpu.shard", ["--device=cpu", "--preset=nano", "--steps=0"], "--steps=0"),
    ("gpu.train", ["--device=cpu", "--preset=nano", "--workers=-1"], "--workers=-1"),
    ("gpu.small", ["--device=cpu", "--preset=d20"], "scripts.gpu.train"),
    ("calibration", ["--strips=99"], "--strips=99"),
    ("calibration", ["--threads=-1"], "--threads=-1"),
    ("finetune_goal", ["--others=a"], "--data"),
    ("finetune_goal", [f"--data={NOTES}", "--parts=x"], "--parts=x"),
    ("finetune_goal", [f"--data={NOTES}", "--others=nowhere"], "nowhere"),
    ("poison", [f"--data={NOTES}", "--seeds=0"], "--seeds=0"),
    ("peers", ["--engines=shipped", "--manifest=nowhere"], "nowhere"),
    ("peers", ["--per_group=-1"], "--per_group"),
]


@pytest.mark.parametrize(("script", "flags", "named"), MISTAKES)
def test_a_mistake_is_one_sentence(script, flags, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(import_module(f"scripts.{script}").main, flags) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert named in said.err


@pytest.mark.parametrize("flag", ["--bogus=1", "--pages=0", "--engine=race", "--kills=many"])
def test_the_crash_test_of_batches_refuses_as_scripts_do(flag, capsys):
    assert run(crash.main, [flag]) == 2
    said = capsys.readouterr().err
    assert flag.partition("=")[0] in said and said.count("\n") == 1


def test_a_model_that_is_none_is_told_before_another_engine_reads(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    peers = import_module("scripts.peers")
    assert run(peers.main, ["--engines=shipped,nowhere"]) == 4
    assert "nowhere" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_flags_of_the_simulation_are_those_that_its_first_lines_name(capsys):
    scale = import_module("scripts.scale")
    flags = ["--workers=20", "--pages=2000", f"--measured={ROOT / 'docs' / 'scale.json'}"]
    assert run(scale.main, flags) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + len(scale.scenarios(scale.Cluster()))


def test_batch_tells_what_it_does_without_a_way(capsys):
    assert run(import_module("scripts.bench.batch").main, ["--help"]) == 0
    assert "compare" in capsys.readouterr().out
