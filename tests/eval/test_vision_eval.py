"""Evaluation from questions to results: control pictures, resumable answers, scores, and the script."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path

import pytest
from PIL import Image

from nanoocr import progress
from nanoocr.commandline import run
from nanoocr.errors import UsageError
from nanoocr.eval import samples as samples_module
from nanoocr.eval.answering import answer_all, peer_answers
from nanoocr.eval.catalogue import (
    BENCHMARKS,
    Benchmark,
    Selection,
    find_benchmark,
    main_metric,
    text_scores,
)
from nanoocr.eval.evaluate import RESULTS, THUMBNAIL, VisionEvalConfig, evaluate
from nanoocr.eval.grounding import CONDITIONS, asks_of, wrong_picture
from nanoocr.eval.metrics import worst_and_median
from nanoocr.eval.peers import PeerError
from nanoocr.eval.samples import EvalSample, SampleSet
from nanoocr.eval.store import Prediction, Store, find_predictions
from nanoocr.eval.summary import by_group, score_pages, summarise
from nanoocr.model.folder import save_model
from scripts import vision_eval

TEXTS = ("alpha one", "beta two", "gamma three", "delta four")


def shade(i: int) -> Image.Image:
    return Image.new("RGB", (40, 20), (10 * i, 0, 0))


@pytest.fixture
def samples():
    """Four cards; the red of a picture tells which it is."""
    return [
        EvalSample(f"card/{i}", shade(i), "Read.", text, "card", ("card",)) for i, text in enumerate(TEXTS)
    ]


class Sighted:
    """A peer that reads the red of a picture perfectly; None as an answer makes it fail."""

    name = "sighted"

    def __init__(self, texts=TEXTS) -> None:
        self.texts, self.calls = texts, 0

    def read(self, image, kind) -> str:
        self.calls += 1
        red = image.getpixel((0, 0))[0] // 10
        text = self.texts[red] if red < len(self.texts) else ""
        if text is None:
            raise PeerError("no ink")
        return text

    def about(self):
        return {"version": "1"}


def answers(peer, samples, folder, conditions=CONDITIONS):
    store = Store(folder, {"engine": peer.name})
    return answer_all(asks_of(samples, conditions), store, functools.partial(peer_answers, peer), "test")


# control pictures


def test_the_wrong_picture_is_the_next_of_the_same_question_with_another_truth():
    keys, truths = ["a", "b", "a", "a"], ["x", "y", "x", "z"]
    assert [wrong_picture(keys, truths, i) for i in range(4)] == [3, 2, 3, 0]
    assert wrong_picture(["a", "a"], ["x", "x"], 0) == 1  # no other truth anywhere
    assert wrong_picture(["a", "b", "c"], ["x", "x", "y"], 0) == 2


def test_asks_show_the_own_another_and_a_blank_picture(samples):
    asks = asks_of(samples, CONDITIONS)
    assert [a.condition for a in asks] == [c for c in CONDITIONS for _ in samples]
    right, wrong, blank = (asks[i].picture().image for i in (0, 4, 8))
    assert right.getpixel((0, 0)) == (0, 0, 0) and wrong.getpixel((0, 0)) == (10, 0, 0)
    assert blank.size == right.size and blank.getcolors() == [(800, (255, 255, 255))]
    with pytest.raises(UsageError, match="two samples"):
        asks_of(samples[:1], CONDITIONS)
    assert len(asks_of(samples[:1], ("right", "blank"))) == 2


# answers on disk


def test_an_interrupted_run_goes_on_and_asks_nothing_twice(samples, tmp_path):
    class Dies(Sighted):
        def read(self, image, kind):
            if self.calls == 5:
                raise KeyboardInterrupt
            return super().read(image, kind)

    with pytest.raises(KeyboardInterrupt):
        answers(Dies(), samples, tmp_path)
    assert len(list(tmp_path.rglob("*.txt"))) == 5
    (tmp_path / "right/card/1.txt").unlink()  # killed between the two files of a page
    (tmp_path / "right/card/2.json").write_text("{")
    again = Sighted()
    again.name = "sighted"
    found = answers(again, samples, tmp_path)
    assert again.calls == 12 - 5 + 2
    assert [found["right"][s.id].text for s in samples] == list(TEXTS)
    assert [found["wrong"][s.id].text for s in samples] == [*TEXTS[1:], TEXTS[0]]
    assert {p.text for p in found["blank"].values()} == {""}
    idle = Sighted()
    assert answers(idle, samples, tmp_path) == found and idle.calls == 0


def test_a_changed_picture_is_read_again_and_another_engine_is_refused(samples, tmp_path):
    answers(Sighted(), samples, tmp_path, ("right",))
    changed = [EvalSample("card/0", shade(3), "Read.", "x", "card"), *samples[1:]]
    peer = Sighted()
    found = answers(peer, changed, tmp_path, ("right",))
    assert peer.calls == 1 and found["right"]["card/0"].text == TEXTS[3]
    with pytest.raises(UsageError, match=r"other engine.*--out"):
        Store(tmp_path, {"engine": "other"})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        Store(tmp_path, {"engine": "sighted"})


def test_failures_are_answers_that_say_why(samples, tmp_path):
    missing = EvalSample("card/9", tmp_path / "none.png", "Read.", "x", "card")
    found = answers(Sighted((None, *TEXTS[1:])), [*samples, missing], tmp_path, ("right",))["right"]
    assert (found["card/0"].status, found["card/0"].error) == ("error", "no ink")
    assert found["card/9"].status == "error" and "does not exist" in found["card/9"].error
    assert found["card/1"].status == "ok" and found["card/1"].seconds >= 0


def test_others_predictions_missing_unknown_and_odd(samples, tmp_path):
    (tmp_path / "card").mkdir()
    (tmp_path / "card/0.md").write_text("alpha one\n")
    (tmp_path / "card/0.txt").write_text("not this one")
    (tmp_path / "card/1.txt").write_bytes(b"beta tw\xff")
    (tmp_path / "card/77.txt").write_text("whose?")
    (tmp_path / ".hidden").write_text("")
    found = find_predictions(tmp_path, samples)
    assert {k: p.text for k, p in found.predictions["right"].items()} == {
        "card/0": "alpha one",
        "card/1": "beta tw\ufffd",
    }
    assert found.missing == ("card/2", "card/3")
    assert found.unknown == ("card/0.txt", "card/77.txt")
    assert len(found.notes) == 1 and "1.txt" in found.notes[0]
    with pytest.raises(UsageError, match="no such folder"):
        find_predictions(tmp_path / "none", samples)


def test_our_own_answers_can_be_scored_as_others(samples, tmp_path):
    answers(Sighted((None, *TEXTS[1:])), samples, tmp_path)
    found = find_predictions(tmp_path, samples)
    assert found.missing == () and found.unknown == () and set(found.predictions) == set(CONDITIONS)
    assert found.predictions["right"]["card/0"].status == "error"


# scores


def test_text_scores_name_both_directions_of_fox():
    sample = EvalSample("x", b"", "Read.", "a b c d", "card")
    scores = text_scores(sample, "a x")
    assert scores["fox_precision_official"] == 0.25 and scores["precision"] == 0.5
    assert scores["cer"] == pytest.approx(5 / 7)
    question = EvalSample("x", b"", "How many?", "100", "question")
    assert text_scores(question, "104") == {"relaxed_accuracy": 1.0, "anls": pytest.approx(2 / 3)}


def scored(samples, tmp_path, texts=TEXTS, task=BENCHMARKS["folder"]):
    return score_pages(samples, answers(Sighted(texts), samples, tmp_path), task)


def test_summary_of_a_sighted_engine(samples, tmp_path):
    numbers = summarise(scored(samples, tmp_path))
    assert numbers["pages"] == 4 and numbers["perfect"] == 1.0 and numbers["corpus_cer"] == 0.0
    overlap = numbers["scores"]["word_overlap"]
    assert (overlap["mean"], overlap["wrong"], overlap["gap_wrong"], overlap["gap_blank"]) == (
        1.0,
        0.0,
        1.0,
        1.0,
    )
    assert numbers["scores"]["cer"]["gap_blank"] == 1.0  # an error rate that falls is a gain
    assert numbers["distinct"] == {"right": 4, "wrong": 4, "blank": 1}


def test_summary_of_an_engine_that_does_not_look(samples, tmp_path):
    numbers = summarise(scored(samples, tmp_path, ["beta two"] * 30))
    assert numbers["scores"]["plain_word_f1"]["mean"] == 0.25
    assert all(numbers["scores"][name]["gap_wrong"] == 0.0 for name in numbers["scores"])
    assert numbers["distinct"]["right"] == 1 and numbers["catastrophic"] == 0.75


def test_rates_by_hand(samples):
    given = {
        "card/0": Prediction("alpha one", "ok", seconds=1.0),
        "card/1": Prediction("beta", "truncated", seconds=3.0),
        "card/2": Prediction("ha " * 90, "unknown"),
    }
    pages = score_pages(samples, {"right": given}, BENCHMARKS["folder"])
    numbers = summarise(pages)
    assert (numbers["missing"], numbers["errors"], numbers["truncated"], numbers["repetition"]) == (
        1,
        0,
        0.25,
        0.25,
    )
    assert numbers["seconds_per_page"] == 2.0 and numbers["perfect"] == 0.25
    cers = [0.0, 0.5, text_scores(samples[2], "ha " * 90)["cer"], 1.0]
    assert numbers["scores"]["cer"]["mean"] == pytest.approx(sum(cers) / 4)
    assert numbers["scores"]["cer"]["median"] == 0.75 and numbers["catastrophic"] == 0.5
    assert "gap_wrong" not in numbers["scores"]["cer"]
    shown = worst_and_median(pages, lambda page: (page.badness, page.sample.id))
    assert [page.sample.id for _, page in shown] == ["card/2", "card/3"]


def test_a_hundred_thousand_characters_of_repetition_are_scored_at_once(samples):
    started = time.process_time()
    given = {sample.id: Prediction("ha ! " * 20_000) for sample in samples}
    numbers = summarise(score_pages(samples, {"right": given}, BENCHMARKS["folder"]))
    assert numbers["repetition"] == 1.0 and numbers["scores"]["cer"]["mean"] > 5_000
    assert time.process_time() - started < 10  # a fraction of a second on a quiet machine


def test_progress_says_how_far_and_how_long(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    assert list(progress.track("abc", 3, "reading")) == ["a", "b", "c"]
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" in ")[0] for line in said] == [f"reading: {i} of 3" for i in (1, 2, 3)]
    assert said[-1].endswith("0:00:00 left") and progress.clock(3723.4) == "1:02:03"


def test_groups_keep_their_order_and_metrics_their_pages(samples, tmp_path):
    question = EvalSample("q", shade(0), "Who?", "alpha one", "question", ("asked",))
    pages = scored([*samples, question], tmp_path)
    groups = by_group(pages)
    assert list(groups) == ["all", "card", "asked"]
    everything = summarise(groups["all"])
    assert (
        everything["scores"]["relaxed_accuracy"]["mean"] == 1.0 and everything["scores"]["cer"]["mean"] == 0.0
    )
    asked = summarise(groups["asked"])
    assert asked["corpus_cer"] is None and asked["catastrophic"] is None
    assert main_metric(asked["scores"]) == "relaxed_accuracy"


def test_tasks_are_found_by_name():
    with pytest.raises(UsageError, match="unknown benchmark 'fux'"):
        find_benchmark("fux")
    with pytest.raises(UsageError, match="--data"):
        find_benchmark("folder").load(Selection())


# the script


@pytest.fixture
def model_folder(tmp_path, make_model, byte_tokenizer):
    folder = tmp_path / "model"
    save_model(folder, make_model(sequence_len=512), byte_tokenizer)
    return folder


@pytest.fixture
def folder(tmp_path, samples) -> Path:
    """The four cards as files."""
    where = tmp_path / "pictures"
    for sample in samples:
        path = where / f"{sample.id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sample.picture.save(path)
        path.with_suffix(".txt").write_text(sample.truth)
    return where


def test_vision_eval_of_a_model_ends_in_one_json_line(model_folder, folder, tmp_path, capsys):
    flags = [f"--model={model_folder}", "--benchmark=folder", f"--data={folder}", f"--out={tmp_path / 'out'}"]
    assert run(vision_eval.main, [*flags, "--max_tokens=4", "--max_batch=3"]) == 0
    printed, said = capsys.readouterr()
    data = json.loads(printed.splitlines()[-1])
    stored = json.loads((tmp_path / "out" / RESULTS).read_text())
    assert data["groups"] == stored["groups"] and data["groups"]["card"]["pages"] == 4
    assert "--max_tokens=4" in data["command"]
    assert len(stored["pages"]) == 4
    assert all(page["vision_tokens"] > 0 and page["text_tokens"] <= 4 for page in stored["pages"])
    assert {entry["which"] for entry in stored["shown"]} == {"worst", "median"}
    for entry in stored["shown"]:
        assert max(Image.open(tmp_path / "out" / entry["picture"]).size) <= THUMBNAIL
        assert f"{entry['which']}: {entry['id']}" in printed or entry["id"] in printed
    assert "12 of 12" in said
    before = (tmp_path / "out/right/card/0.txt").stat().st_mtime_ns
    assert run(vision_eval.main, [*flags, "--max_tokens=4"]) == 0  # nothing is read again
    assert (tmp_path / "out/right/card/0.txt").stat().st_mtime_ns == before
    assert run(vision_eval.main, [*flags, "--max_tokens=5"]) == 2
    assert "other max_tokens" in capsys.readouterr().err


def test_vision_eval_of_others_predictions_names_what_is_missing(folder, tmp_path, capsys):
    theirs = tmp_path / "theirs"
    (theirs / "card").mkdir(parents=True)
    (theirs / "card/0.txt").write_text(TEXTS[0])
    (theirs / "readme.txt").write_text("hello")
    flags = [f"--predictions={theirs}", "--benchmark=folder", f"--data={folder}", f"--out={tmp_path / 'out'}"]
    assert run(vision_eval.main, flags) == 0
    printed = capsys.readouterr().out
    data = json.loads(printed.splitlines()[-1])
    assert data["missing"] == ["card/1", "card/2", "card/3"] and data["unknown"] == ["readme.txt"]
    assert data["groups"]["all"]["missing"] == 3 and data["groups"]["all"]["perfect"] == 0.25
    assert "missing: 3 (card/1" in printed and "unknown: 1 (readme.txt)" in printed


def test_a_metric_over_the_whole_set_stands_beside_the_pages(folder, tmp_path, monkeypatch, samples):
    def share_answered(samples, texts):
        return {"answered": sum(bool(text) for text in texts.values()) / len(samples)}

    task = Benchmark(lambda _: SampleSet(tuple(samples)), text_scores, share_answered)
    monkeypatch.setitem(BENCHMARKS, "mine", task)
    theirs = tmp_path / "theirs" / "card"
    theirs.mkdir(parents=True)
    (theirs / "1.md").write_text("beta")
    config = VisionEvalConfig(out=str(tmp_path / "o"), benchmark="mine", predictions=str(theirs.parent))
    assert evaluate(config)["set_scores"] == {"right": {"answered": 0.25}}


def test_synthetic_kinds_become_lines_of_the_table(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(samples_module, "find_fonts", lambda: tuple(samples_fonts()))
    config = VisionEvalConfig(
        out=str(tmp_path / "o"), model=str(model_folder), kinds="card, scene", per_group=2, max_tokens=2,
        grounding=False,
    )  # fmt: skip
    groups = evaluate(config)["groups"]
    assert groups["card"]["pages"] == groups["scene"]["pages"] == 2 and groups["all"]["pages"] == 4
    assert set(groups) <= {"all", "card", "scene", "natural text", "random text"}
    assert "gap_wrong" not in groups["card"]["scores"]["cer"]


def samples_fonts():
    from nanoocr.data.synth import find_fonts

    return find_fonts()[:2]


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        (["--out={tmp}/o", "--benchmark=fux"], 2, "fux"),
        (["--out={tmp}/o", "--benchmark=folder"], 2, "--data"),
        (["--out={tmp}/o", "--benchmark=folder", "--data=nowhere"], 2, "nowhere"),
        (["--out={tmp}/o", "--benchmark=folder", "--data={data}", "--model=nowhere"], 4, "nowhere"),
        (
            ["--out={tmp}/o", "--benchmark=folder", "--data={data}", "--predictions=none"],
            2,
            "--predictions=none",
        ),
        (["--out={tmp}/o", "--benchmark=folder", "--data={data}", "--kinds=form"], 2, "no picture"),
        (["--out={tmp}/o", "--per_group=-1"], 2, "--per_group"),
        (
            ["--out={data}/card/0.png/x", "--benchmark=folder", "--data={data}", "--predictions={data}"],
            6,
            "0.png",
        ),
        ([], 2, "--out"),
    ],
)
def test_vision_eval_mistakes(flags, code, named, folder, tmp_path, capsys):
    assert run(vision_eval.main, [flag.format(tmp=tmp_path, data=folder) for flag in flags]) == code
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
