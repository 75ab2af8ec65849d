"""Page sets, their scores, and the script that measures engines on them: with a small folder of our own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nanoocr.commandline import run
from nanoocr.errors import UsageError
from nanoocr.eval import page_reading
from nanoocr.eval.boxes import TextBox, upright_quad
from nanoocr.eval.made_pages import EMPTY_KINDS, empty_picture, turned_samples, upright_page
from nanoocr.eval.page_extras import EXTRAS, rejoined
from nanoocr.eval.page_scores import invented, page_scores, score_set, turbo_set_f1
from nanoocr.eval.page_sets import cut_quad, load_page_set, published_answers
from nanoocr.eval.page_tables import verdict
from nanoocr.eval.peers import PEERS, PeerError
from nanoocr.eval.samples import EvalSample
from nanoocr.model.folder import save_model
from scripts import measure_pages as script

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TEXTS = {"a": "TOTAL 12.50\nthank you", "b": "Fresh fish daily", "c": "no 7 Elm Street"}


def shade(name: str) -> Image.Image:
    """A picture that a stand-in can tell from the others: its grey says which text it holds."""
    return Image.new("RGB", (60, 40), (40 * (1 + list(TEXTS).index(name)),) * 3)


class Sighted:
    """Reads the pictures of `shade`; of `lost` it says that it failed."""

    name = "sighted"

    def __init__(self, lost: str = "") -> None:
        self.lost, self.pages = lost, 0

    def read(self, image, kind):
        self.pages += 1
        number = round(np.asarray(image).mean() / 40) - 1
        name = list(TEXTS)[number] if 0 <= number < len(TEXTS) else ""
        if name and name == self.lost:
            raise PeerError("it fell over")
        return TEXTS.get(name, "")

    def boxes(self, image, kind):
        return [TextBox(upright_quad(0, 0, *image.size), self.read(image, kind))]

    def about(self):
        return {"version": "1", "weights_bytes": 7}


@pytest.fixture
def data(tmp_path):
    """A folder in the form of the real one: three receipts, and Fox's three settings."""
    root = tmp_path / "data"
    rows = []
    for folder in ("sroie_receipts", "fox_pages/rendered", "fox_pages/random", "fox_pages/original"):
        (root / folder).mkdir(parents=True)
        for name, text in TEXTS.items():
            shade(name).save(root / folder / f"{name}.png")
            (root / folder / f"{name}.txt").write_bytes(text.replace("\n", "\r\n").encode())
    for name in TEXTS:
        files = {"image": f"sroie_receipts/{name}.png", "text": f"sroie_receipts/{name}.txt"}
        rows.append({"dataset": "sroie_receipts", "id": name, "kind": "receipt", **files})
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    fox = [
        {"kind": kind, "id": name, "image": f"{kind}/{name}.png", "text": f"{kind}/{name}.txt"}
        for kind in ("rendered", "random", "original")
        for name in TEXTS
    ]
    (root / "fox_pages" / "manifest.jsonl").write_text("\n".join(map(json.dumps, fox)))
    return root


# scores


def test_every_score_follows_its_protocol():
    scores = page_scores("Total 12\nTHANK you you", "total  12\nthank you x")
    # Without case the texts are "total 12 thank you you" and "total 12 thank you x": 3 errors in 20.
    assert scores.cer_free == pytest.approx(3 / 20)
    assert scores.bag_f1_free == pytest.approx(2 * 4 / (5 + 5))
    assert scores.set_precision == pytest.approx(2 / 4)  # 12 and you of Total, 12, THANK, you
    assert scores.set_recall == pytest.approx(2 / 5)
    assert scores.set_precision_free == 1.0
    assert scores.set_recall_free == pytest.approx(4 / 5)
    assert scores.set_f1_free == pytest.approx(2 * 4 / 9)
    assert scores.cer_strict > scores.cer_free
    assert scores.turbo_set_f1 == 1.0  # x has one character and counts on no side


def test_a_ligature_is_its_letters_without_case_and_another_sign_with_it():
    assert page_scores("fish", "ﬁsh").cer_free == 0 and page_scores("fish", "ﬁsh").set_precision_free == 1
    assert page_scores("fish", "ﬁsh").set_precision == 0


def test_turbo_counts_sets_of_longer_tokens():
    assert turbo_set_f1("a AB ab cd", "ab ef") == pytest.approx(2 * 1 / (2 + 2))
    assert turbo_set_f1("a", "b") == 1.0 and turbo_set_f1("ab", "b") == 0.0


def test_an_empty_truth_is_met_by_nothing_alone():
    assert page_scores("", "").cer_free == 0 and page_scores("", "").set_f1 == 1
    assert page_scores("x", "").cer_free == 1 and page_scores("x", "").bag_f1_free == 0


def test_a_set_has_means_medians_and_the_control():
    truths = list(TEXTS.values())
    scores = score_set([truths[0], truths[1], ""], truths)
    assert scores.mean.cer_free == pytest.approx(1 / 3) and scores.median.cer_free == 0
    lengths = [len(truth) for truth in truths]
    assert scores.cer_free_together == pytest.approx(lengths[2] / sum(lengths))
    assert scores.control.bag_f1_free == 0.0
    # Whoever says the same whatever is shown scores as much against the next truth as against his own.
    recited = score_set(["fresh fish"] * 3, ["fresh fish", "fresh fish today", "fresh fish"])
    assert recited.control.bag_f1_free > 0.8
    with pytest.raises(ValueError, match="no pages"):
        score_set([], [])


def test_invented_characters_are_counted_by_kind():
    found = invented(["", " \n", "ab c", "d"], ["blank", "blank", "rules", "noise"])
    assert (found.silent, found.characters, found.most) == (0.5, 4, 3)
    assert found.by_kind == {"rules": 3, "noise": 1}


# sets


def test_receipts_load_with_any_line_ends(data):
    page_set = load_page_set("sroie", data)
    assert [sample.truth for sample in page_set.samples] == list(TEXTS.values())
    assert {sample.kind for sample in page_set.samples} == {"receipt"} and page_set.left_out == ()
    assert len(load_page_set("sroie", data, limit=2).samples) == 2


def test_words_that_line_ends_part_are_whole_on_both_sides():
    assert (
        rejoined("pre-\ncondition - a well-known one -\nand 3-\n\n4")
        == "precondition - a well-known one -\nand 34"
    )
    sample = EvalSample("x", Image.new("RGB", (8, 8)), "", "A highintensity state", "document")
    scores = EXTRAS["born_digital"]([sample], {"x": "A high-\nintensity stale"})
    assert scores == {"bag_f1_rejoined": pytest.approx(2 / 3)}


def test_what_is_no_page_is_named(data):
    bad = [
        "not json",
        json.dumps([1]),
        json.dumps({"dataset": "sroie_receipts", "id": "x", "image": "gone.png", "text": "gone.txt"}),
        json.dumps({"dataset": "sroie_receipts", "id": "y", "image": None, "text": ["a"]}),
    ]
    with (data / "manifest.jsonl").open("a") as file:
        file.write("\n" + "\r\n".join(bad))
    page_set = load_page_set("sroie", data)
    assert len(page_set.samples) == 3 and len(page_set.left_out) == 4
    said = "; ".join(page_set.left_out)
    assert "line 4: not a JSON object" in said and "gone.png is missing" in said and "names of files" in said


def test_a_missing_folder_and_an_unknown_set_say_so(tmp_path):
    with pytest.raises(UsageError, match="--data"):
        load_page_set("sroie", tmp_path)
    with pytest.raises(UsageError, match="choose among sroie"):
        load_page_set("nothing", tmp_path)


def test_lines_are_cut_by_their_boxes(data):
    image = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(image).rectangle((50, 40, 149, 59), fill="black")
    image.save(data / "sroie_receipts" / "a.png")
    quad = [50, 40, 150, 40, 150, 60, 50, 60]
    lines = [
        {"text": "BAR", "quad": quad},
        {"text": "FLAT", "quad": [5.0] * 8},
        {"text": None, "quad": quad},
        {"text": "SHORT", "quad": [1, 2]},
        {"text": "FAR", "quad": [*quad[:7], 1e30]},
        {"text": "NOWHERE", "quad": [float("nan"), *quad[1:]]},
    ]
    row = {"id": "a", "image": "sroie_receipts/a.png", "lines": lines}
    (data / "sroie_receipts_lines.jsonl").write_text(json.dumps(row) + "\n{}\n")
    page_set = load_page_set("sroie_lines", data)
    (line,) = page_set.samples
    assert (line.id, line.truth, line.kind) == ("a/0", "BAR", "line") and len(page_set.left_out) == 6
    assert line.open().size == (110, 30)  # a quarter of the height of 20 on each side
    assert np.asarray(line.open())[15, 55].max() == 0 and np.asarray(line.open())[1, 55].min() == 255


def test_a_tilted_box_is_made_level_and_the_edge_of_the_page_goes_on():
    page = np.full((100, 100, 3), 90, dtype=np.uint8)
    quad = np.array([[-10, 20], [50, 60], [40, 75], [-20, 35]], dtype=np.float32)
    cut = np.asarray(cut_quad(page, quad))
    assert cut.min() == cut.max() == 90 and cut.shape[1] >= 3 * cut.shape[0]


def test_published_answers_count_only_where_all_are_there(data):
    for system, names in (("whole", TEXTS), ("half", ("a",))):
        folder = data / "fox_pages" / "answers" / system / "random"
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.txt").write_text(TEXTS[name])
    assert published_answers(data, load_page_set("fox_random", data)) == {"whole": TEXTS}
    assert published_answers(data, load_page_set("sroie", data)) == {}


PUBLISHED = {  # word-set precision: rendered and random, with case, then without
    "deepseek_ocr_64": (0.837, 0.169, 0.840, 0.231),
    "deepseek_ocr_100": (0.937, 0.395, 0.940, 0.569),
    "deepseek_ocr_base": (0.970, 0.616, 0.974, 0.799),
    "smoldocling": (0.954, 0.555, 0.956, 0.682),
    "monkeyocr_3b": (0.966, 0.798, 0.969, 0.862),
    "paddleocr": (0.922, 0.893, 0.924, 0.893),
}


@pytest.mark.real_data
@pytest.mark.skipif(
    not (SHARED / "fox_pages" / "answers").is_dir(), reason="the published answers are not here"
)
def test_the_published_figures_come_out_of_the_published_answers():
    found: dict[str, list[float]] = {system: [] for system in PUBLISHED}
    sets = [load_page_set(name, SHARED) for name in ("fox_rendered", "fox_random")]
    answers = [published_answers(SHARED, page_set) for page_set in sets]
    assert all(set(systems) == set(PUBLISHED) for systems in answers)
    for score in ("set_precision", "set_precision_free"):
        for page_set, systems in zip(sets, answers):
            for system, texts in systems.items():
                pairs = [page_scores(texts[sample.id], sample.truth) for sample in page_set.samples]
                found[system].append(float(np.mean([getattr(pair, score) for pair in pairs])))
    for system, expected in PUBLISHED.items():
        assert found[system] == pytest.approx(expected, abs=5.5e-4), system


# pictures that are made


def test_pictures_without_text_are_the_same_every_time_and_of_all_kinds():
    made = [empty_picture(number) for number in range(len(EMPTY_KINDS))]
    assert [kind for kind, _ in made] == list(EMPTY_KINDS)
    for number in (1, 6, 9):
        assert np.array_equal(np.asarray(made[number][1]), np.asarray(empty_picture(number)[1]))
    assert all(image.mode == "RGB" and min(image.size) >= 300 for _, image in made)
    other = empty_picture(len(EMPTY_KINDS) + 1)
    assert other[0] == "noise" and other[1].tobytes() != made[1][1].tobytes()


def test_a_page_turns_clockwise_and_keeps_its_text():
    upright, truth = upright_page(0)
    assert len(truth.splitlines()) == 22 and len(truth) > 600
    (turned,) = turned_samples(90, count=1)
    assert turned.truth == truth
    assert np.array_equal(np.asarray(turned.picture), np.rot90(np.asarray(upright), -1))
    (tilted,) = turned_samples(10, count=1)
    assert tilted.picture.width > upright.width and tilted.picture.getpixel((0, 0)) == (255, 255, 255)


# the script


@pytest.fixture
def peer(monkeypatch):
    """A peer called sighted, the same for the whole test; one called absent that is not installed."""
    found = Sighted()

    def absent(threads):
        raise UsageError("install it")

    monkeypatch.setitem(PEERS, "sighted", lambda threads: found)
    monkeypatch.setitem(PEERS, "absent", absent)
    return found


def test_the_script_reads_once_and_scores_again(data, peer, tmp_path, capsys):
    flags = [f"--data={data}", f"--answers={tmp_path / 'answers'}", "--ours=False", "--peers=sighted,absent"]
    flags += ["--sets=sroie,fox_rendered,fox_random"]
    out, page = tmp_path / "pages.json", tmp_path / "pages.md"
    assert run(script.main, [*flags, "--limit=1"]) == 0 and peer.pages == 3
    assert run(script.main, [*flags, f"--out={out}", f"--markdown={page}"]) == 0 and peer.pages == 9
    results = json.loads(out.read_text())
    scores = results["sets"]["sroie"]["engines"]["sighted"]["scores"]
    assert scores["mean"]["cer_free"] == 0 and scores["pages"] == 3
    assert results["absent"] == {"absent": "install it"} and results["machine"]["threads"] == 1
    text = page.read_text()
    assert "| 3 | 1.000 | 1.000 | 0.000 | 1.000 | 1.000 | 0.000 | 0.000 | 0.000 |" in text  # the drop
    assert "absent was not measured: install it" in text and "--sets=sroie,fox_rendered" in text
    peer.lost = "a"
    assert run(script.main, flags) == 0 and peer.pages == 9  # nothing is read again
    assert "absent is left out: install it" in capsys.readouterr().err


def test_common_scores_the_pages_that_all_have_read(data, peer, monkeypatch, tmp_path):
    monkeypatch.setitem(PEERS, "other", lambda threads: Sighted(lost="b"))
    out = tmp_path / "pages.json"
    flags = [f"--data={data}", f"--answers={tmp_path / 'answers'}", "--ours=False", "--sets=sroie"]
    assert run(script.main, [*flags, "--peers=sighted", "--limit=1"]) == 0
    assert run(script.main, [*flags, "--peers=other"]) == 0
    both = [*flags, "--peers=sighted,other", "--read=False", f"--out={out}"]
    for common, pages in ((False, 3), (True, 1)):
        assert run(script.main, [*both, f"--common={common}"]) == 0
        engines = json.loads(out.read_text())["sets"]["sroie"]["engines"]
        assert engines["sighted"]["scores"]["pages"] == 1 and engines["other"]["scores"]["pages"] == pages
    assert engines["other"]["failed"] == 0 and engines["sighted"]["which"] == engines["other"]["which"]


def test_a_page_that_fails_counts_as_nothing_read(data, peer, tmp_path):
    peer.lost = "a"
    out = tmp_path / "pages.json"
    flags = [f"--data={data}", f"--answers={tmp_path / 'answers'}", "--ours=False", "--peers=sighted"]
    assert run(script.main, [*flags, "--sets=sroie", f"--out={out}"]) == 0
    found = json.loads(out.read_text())["sets"]["sroie"]["engines"]["sighted"]
    assert found["failed"] == 1 and found["scores"]["mean"]["cer_free"] == pytest.approx(1 / 3)


def test_scoring_without_reading_needs_answers(data, peer, tmp_path, capsys):
    flags = [f"--data={data}", f"--answers={tmp_path}", "--ours=False", "--peers=sighted", "--sets=sroie"]
    assert run(script.main, [*flags, "--read=False"]) == 2 and peer.pages == 0
    assert "--read=True" in capsys.readouterr().err


def test_wrong_flags_are_told_before_anything_is_read(peer, capsys):
    assert run(script.main, ["--sets=nothing"]) == 2
    assert run(script.main, ["--peers=nobody"]) == 2
    assert run(script.main, ["--limit=-1"]) == 2
    said = capsys.readouterr().err
    assert "--sets=nothing" in said and "--peers=nobody" in said and "--limit" in said
    assert peer.pages == 0


def test_our_reader_is_one_engine_among_others(data, tmp_path, make_model, byte_tokenizer):
    model = tmp_path / "model"
    save_model(model, make_model(sequence_len=512), byte_tokenizer)
    out = tmp_path / "pages.json"
    flags = [f"--data={data}", f"--answers={tmp_path / 'answers'}", f"--model={model}", "--peers="]
    assert run(script.main, [*flags, "--sets=sroie", "--limit=1", f"--out={out}"]) == 0
    found = json.loads(out.read_text())["sets"]["sroie"]["engines"]["nanoocr"]
    assert found["about"]["weights_bytes"] > 1000 and found["scores"]["pages"] == 1
    (folder,) = (tmp_path / "answers").iterdir()
    assert (
        folder.name == f"nanoocr-{found['about']['version']}" == f"nanoocr-{page_reading.fingerprint(model)}"
    )


def test_the_verdict_names_who_is_ahead_and_compares_equal_pages_alone():
    def result(cer, pages=3, about=True):
        scores = {"pages": pages, "mean": {"cer_free": cer}, "median": {}}
        return {"about": {"version": "1"} if about else {}, "scores": scores, "which": str(pages)}

    engines = {
        "nanoocr": result(0.2),
        "better": result(0.1),
        "worse": result(0.3),
        "fewer": result(0.0, pages=1),
        "published: x": result(0.0, about=False),
    }
    assert verdict({"sroie": engines}, "nanoocr") == [
        "sroie, mean cer_free: nanoocr has 0.200; ahead of it: better (0.100)."
    ]
    assert verdict({"sroie": {"better": result(0.1)}}, "nanoocr") == []
