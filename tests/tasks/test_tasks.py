"""The data sets in Parquet: rows of the true schemas with all that occurs in them, and what is unusable."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nanoocr import tasks
from nanoocr.data.rows import BadRowError, FilteredRowError, Turn
from nanoocr.errors import UsageError
from nanoocr.tasks.choose import NAMES, make_task
from nanoocr.tasks.plain_text import opening

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
STRINGS = pa.list_(pa.string())
RATING = {"relevance": 3, "image_correspondence": None, "visual_dependency": 1, "formatting": 5}
FINEVISION = pa.schema(
    [
        ("images", pa.list_(IMAGE)),
        ("texts", pa.list_(pa.struct([("user", pa.string()), ("assistant", pa.string())]))),
        ("source", pa.string()),
        *((f"{name}_ratings", pa.list_(pa.int64())) for name in RATING),
        *((f"{name}_min", pa.int64()) for name in RATING),
    ]
)


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 20), colour="red") -> dict:
    stored = io.BytesIO()
    Image.new(mode, size, colour).save(stored, "PNG")
    return {"bytes": stored.getvalue(), "path": "a.png"}


def write(path, rows: list[dict], schema: pa.Schema | None = None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def vision_row(user="What?", assistant="That.", images=None, **columns) -> dict:
    ratings = {f"{name}_min": value for name, value in RATING.items()}
    texts = [{"user": user, "assistant": assistant}]
    images = [picture()] if images is None else images
    return {"images": images, "texts": texts, "source": "chartqa", **ratings, **columns}


def vision_task(tmp_path, rows, subset="chartqa", options=""):
    write(tmp_path / subset / "train-00000-of-00001.parquet", rows, FINEVISION)
    return make_task(f"finevision:{subset}?path={tmp_path}{options}")


ASKED = {"question": "Which?", "image": picture()}
CHOICES = {"question": "1 + 1?", "subject": "a", "choices": ["1", "2", "3", "4"], "answer": 1}

# ---------------------------------------------------------------------------------------------------------
# FineVision


def test_finevision_rows(tmp_path):
    two = [{"user": "<image>\n<image_2> Which?", "assistant": "One."}, {"user": "And?", "assistant": "Two."}]
    rows = [
        vision_row(),
        vision_row(images=[picture("RGBA", colour=(0, 0, 0, 0)), picture("L", colour=7)], texts=two),
        vision_row(images=None, user="Only text", source=None) | {"images": None},
        vision_row(images=[]),
    ]
    task = vision_task(tmp_path, rows)
    assert len(task) == 4 and task[0].turns == (Turn("What?", "That."),) and task[0].source == "chartqa"
    assert task[1].turns == (Turn("Which?", "One."), Turn("And?", "Two."))
    transparent, grey = task[1].images()
    assert transparent.getpixel((0, 0)) == (255, 255, 255) and grey.getpixel((0, 0)) == (7, 7, 7)
    assert task[2].pictures == task[3].pictures == () and task[2].prompt == "Only text"
    assert "train-00000-of-00001.parquet: row 1" in task[1].id


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (vision_row(assistant=" "), "an answer is blank"),
        (vision_row(assistant=None), "the answer is None"),
        (vision_row(user=None), "the question is None"),
        (vision_row(texts=[]), "no question"),
        (vision_row(texts=None), "texts"),
        (vision_row(images=[None]), "images"),
        (vision_row(images=[{"bytes": None, "path": "elsewhere.png"}]), "its path"),
    ],
)
def test_finevision_rows_that_cannot_be_used_are_named(tmp_path, row, complaint):
    task = vision_task(tmp_path, [vision_row(), row])
    assert task[0].answer == "That."
    with pytest.raises(BadRowError, match=rf"parquet: row 1: .*{complaint}"):
        task[1]


def test_ratings_filter_and_null_is_kept(tmp_path):
    rows = [vision_row(), vision_row(relevance_min=None), vision_row(relevance_min=5)]
    task = vision_task(tmp_path, rows, options="&relevance_min=4&image_correspondence_min=5")
    assert task[1].answer == task[2].answer == "That."
    with pytest.raises(FilteredRowError, match="row 0: its relevance is 3, below 4"):
        task[0]
    assert len(list(make_task(f"finevision:chartqa?path={tmp_path}"))) == 3


def test_ocr_subsets_have_one_prompt_and_may_be_blank(tmp_path):
    rows = [vision_row("stored question", "# A page"), vision_row(assistant="")]
    subset = "olmOCR-mix-0225-documents"
    task = vision_task(tmp_path, rows, subset)
    assert task[0].turns == (Turn("Read.", "# A page"),) and task[1].answer == ""
    assert vision_task(tmp_path, rows, subset, "&prompt=stored")[0].prompt == "stored question"
    assert vision_task(tmp_path, rows, subset, "&prompt=Read.")[0].prompt == "Read."
    with pytest.raises(UsageError, match=r"prompt=Read\.: the questions of chartqa are its own"):
        vision_task(tmp_path, rows, "chartqa", "&prompt=Read.")


def test_docling_subsets_become_markdown(tmp_path):
    page = "<doctag><title><loc_1><loc_1><loc_9><loc_9>A</title>\n<text>b</text></doctag>"
    turns = [
        {"user": "Convert this page to docling.", "assistant": page},
        {"user": "Is it b?", "assistant": "Yes."},
    ]
    rows = [vision_row(texts=turns), vision_row(assistant="<doctag><text>cut")]
    task = vision_task(tmp_path, rows, "DoclingMatix")
    assert task[0].turns == (Turn("Convert the document to markdown.", "# A\n\nb"), Turn("Is it b?", "Yes."))
    with pytest.raises(BadRowError, match="row 1: not DocTags, <text> is never closed"):
        task[1]
    assert vision_task(tmp_path, rows, "DoclingMatix", "&prompt=stored")[0].answer == page
    chart = "<loc_0><loc_0><loc_9><loc_9><bar_chart><ched>a<nl><fcel>1<nl></chart>"
    task = vision_task(tmp_path, [vision_row("<chart>", chart)], "SynthChartNet")
    html = "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
    assert task[0].turns == (Turn("Parse the figure.", html),)


@pytest.mark.real_data
def test_the_shared_fixtures_of_the_true_schema():
    from pathlib import Path

    folder = Path(__file__).parents[3] / "shared/data/finevision_schema"
    if not folder.is_dir():
        pytest.skip("the shared fixtures are not here")
    task = make_task(f"finevision:any?path={folder}&visual_dependency_min=3&relevance_min=5")
    rows = list(task)
    assert len(rows) == 12 and [row.prompt for row in rows] == [f"u{i}" for i in range(12)]
    assert rows[5].image.size == (32, 32)


# ---------------------------------------------------------------------------------------------------------
# questions about pictures


def hub_task(tmp_path, spec, rows, schema=None, file="data/train-00000-of-00001.parquet"):
    write(tmp_path / file, rows, schema)
    return make_task(f"{spec}{'&' if '?' in spec else '?'}path={tmp_path}")


def test_chartqa_in_both_copies(tmp_path):
    schema = pa.schema([("image", IMAGE), ("query", pa.string()), ("label", STRINGS)])
    rows = [
        {"image": picture(), "query": "How many?", "label": ["14", "15"]},
        {"image": None, "query": "How many?", "label": ["14"]},
        {"image": picture(), "query": "How many?", "label": []},
    ]
    task = hub_task(tmp_path / "a", "chartqa", rows, schema)
    assert task[0].turns == (Turn("How many?", "14"),) and task[0].image.size == (40, 20)
    for i, complaint in ((1, "row 1: has no picture"), (2, r"row 2: the answer is \[\]")):
        with pytest.raises(BadRowError, match=complaint):
            task[i]
    rows = [{"type": "human_test", "question": "Which?", "answer": "May", "image": picture("P", colour=0)}]
    assert hub_task(tmp_path / "b", "chartqa", rows)[0].turns == (Turn("Which?", "May"),)
    with pytest.raises(UsageError, match="no column 'question'"):
        hub_task(tmp_path / "c", "chartqa", [{"image": picture(), "text": "x"}])


def test_docvqa_takes_the_first_answer(tmp_path):
    schema = pa.schema(
        [("questionId", pa.string()), ("question", pa.string()), ("image", IMAGE), ("answers", STRINGS)]
    )
    rows = [
        {"question": "Date?", "image": picture(), "answers": ["5/8/93", "May 8"]},
        {"question": "Date?", "image": picture(), "answers": []},
        {"question": "Date?", "image": picture(), "answers": None},  # the test split
    ]
    task = hub_task(tmp_path, "docvqa", rows, schema, "DocVQA/train-00000-of-00012.parquet")
    assert task[0].turns == (Turn("Date?", "5/8/93"),)
    for i in (1, 2):
        with pytest.raises(BadRowError, match=f"row {i}: has no answer"):
            task[i]


def test_textvqa_learns_what_most_people_said(tmp_path):
    junk = "answering does not require reading text in the image"
    rows = [
        {
            "question": "Brand?",
            "image": picture(),
            "answers": ["nokia", junk, junk, junk, "dakota", "dakota", ""],
        },
        {"question": "Brand?", "image": picture(), "answers": [junk]},
    ]
    task = hub_task(tmp_path, "textvqa", rows)
    assert task[0].answer == "dakota"
    with pytest.raises(BadRowError, match="row 1: has no answer"):
        task[1]


# ---------------------------------------------------------------------------------------------------------
# text


def test_smoltalk_puts_the_system_text_before_the_first_question(tmp_path):
    def said(*pairs):
        return {"messages": [{"role": role, "content": text} for role, text in pairs], "source": "x"}

    rows = [
        said(
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "Bye"),
            ("assistant", "Bye"),
        ),
        said(("user", "Hi"), ("user", "there")),
        said(("user", "Hi")),
        {"messages": [], "source": "x"},
        said(("user", "Hi"), ("assistant", None)),
        said(("system", None), ("user", "Hi"), ("assistant", "Hello")),
        said(("system", "Be brief."), ("user", None), ("assistant", "Hello")),
    ]
    complaints = ("roles are user, user", "roles are user", "no messages", "assistant says is None")
    task = hub_task(tmp_path, "smoltalk", rows)
    assert task[0].turns == (Turn("Be brief.\n\nHi", "Hello"), Turn("Bye", "Bye")) and not task[0].pictures
    for i, complaint in enumerate((*complaints, "system says is None", "user says is None"), 1):
        with pytest.raises(BadRowError, match=rf"row {i}: .*{complaint}"):
            task[i]


def test_mmlu_asks_for_the_letter(tmp_path):
    rows = [
        CHOICES,
        {**CHOICES, "choices": ["1", "2"]},
        {**CHOICES, "answer": None},
        {**CHOICES, "answer": 4},
        {**CHOICES, "question": ""},
    ]
    file = "all/auxiliary_train-00000-of-00001.parquet"
    task = hub_task(tmp_path, "mmlu", rows, file=file)
    assert task[0].prompt == "1 + 1?\n- 1=A\n- 2=B\n- 3=C\n- 4=D\n\nAnswer with the right letter alone."
    assert task[0].answer == "B" and task[0].source == "mmlu/a"
    for i, complaint in enumerate(("2 choices", "answer is None", "answer is 4", "no question"), 1):
        with pytest.raises(BadRowError, match=rf"row {i}: .*{complaint}"):
            task[i]
    with pytest.raises(UsageError, match="no split 'test'"):
        make_task(f"mmlu?path={tmp_path}&split=test")


def test_gsm8k_drops_the_calculator(tmp_path):
    rows = [{"question": "Half of 48?", "answer": "48/2 = <<48/2=24>>24 clips\n#### 24"}]
    rows.append({"question": "Null?", "answer": None})
    task = hub_task(tmp_path, "gsm8k", rows, file="main/train-00000-of-00001.parquet")
    assert task[0].turns == (Turn("Half of 48?", "48/2 = 24 clips\n#### 24"),)
    with pytest.raises(BadRowError, match="row 1: has no answer"):
        task[1]


def test_plain_text_is_an_answer_to_nothing(tmp_path):
    rows = [{"text": "One. Two.\n\nThree.", "url": "x"}, {"text": ""}, {"text": None}]
    task = hub_task(tmp_path, "plain_text", rows, file="sample/10BT/000_00000.parquet")
    assert task[0].turns == (Turn("", "One. Two.\n\nThree."),)
    for i in (1, 2):
        with pytest.raises(BadRowError, match=f"row {i}: "):
            task[i]
    assert make_task(f"plain_text:sample/10BT?path={tmp_path}&chars=12")[0].answer == "One. Two."


SHAPES = {  # spec: a file of its place, columns of another type than the data set's, and the complaint
    "finevision:a?relevance_min=3": ("a/train-0.parquet", vision_row(relevance_min="4"), "schema.*TypeError"),
    "finevision:b": ("b/train-0.parquet", vision_row(images=[{"bytes": "text", "path": ""}]), "no bytes"),
    "docvqa": ("DocVQA/train-0.parquet", {**ASKED, "answers": "5/8/93"}, "not a list of texts"),
    "textvqa": ("train-0.parquet", {**ASKED, "answers": "nokia"}, "not a list of texts"),
    "chartqa": ("train-0.parquet", {"image": "a.png", "query": "q", "label": ["a"]}, "has no picture"),
    "mmlu": ("all/auxiliary_train-0.parquet", {**CHOICES, "choices": "ABCD"}, "not a list of texts"),
    "mmlu:b": ("b/auxiliary_train-0.parquet", {**CHOICES, "answer": "1"}, "answer is '1'"),
    "mmlu:c": ("c/auxiliary_train-0.parquet", {**CHOICES, "question": 7}, "no question"),
    "gsm8k": ("main/train-0.parquet", {"question": "q", "answer": 24}, "has no answer"),
    "smoltalk": ("train-0.parquet", {"messages": ["Hi", "Hello"]}, "schema.*TypeError"),
    "smoltalk:b": ("b/train-0.parquet", {"messages": [{"role": "user"}]}, "schema.*KeyError"),
    "plain_text": ("a-0.parquet", {"text": 7}, "the answer is 7"),
}


@pytest.mark.parametrize("spec", SHAPES)
def test_columns_of_another_type_are_bad_rows_like_any_other(tmp_path, spec):
    file, row, complaint = SHAPES[spec]
    task = hub_task(tmp_path, spec, [row], file=file)
    with pytest.raises(BadRowError, match=rf"parquet: row 0: .*{complaint}"):
        task[0]
    with pytest.raises(IndexError):  # no such row is a mistake of the caller's
        task[1]


def test_an_opening_ends_where_something_ends():
    text = "First part.\n\nSecond one. Third comes here."
    assert opening(text, 100) == text and opening(text, 20) == "First part."
    assert opening(text, 27) == "First part.\n\nSecond one." and opening("word " * 9, 12) == "word word"
    assert opening("x" * 30, 12) == "x" * 12
    for chars in range(1, len(text)):
        assert text.startswith(opening(text, chars)) and 0 < len(opening(text, chars)) <= chars


def test_synthetic_rows_are_drawn_by_number():
    task = make_task("synth:all?count=20&seed=3&start=1&step=7")
    assert len(task) == 3 and [row.source for row in task] == ["synth/receipt"] * 3
    again = make_task("synth:receipt?seed=3")
    assert len(again) == 1_000_000
    assert np.array_equal(np.asarray(task[1].image), np.asarray(again[1].image))
    assert task[1].answer == again[1].answer and len(task[1].boxes) > 0
    assert (
        again.fingerprint()
        != task.fingerprint()
        == make_task("synth:all?count=20&seed=3&start=1&step=7").fingerprint()
    )
    with pytest.raises(UsageError, match="Unknown kind 'cart'"):
        make_task("synth:cart")


def test_parquet_as_it_is(tmp_path):
    write(tmp_path / "a.parquet", [vision_row("<image>Q", "A")], FINEVISION)
    assert make_task(f"parquet:{tmp_path}")[0].turns == (Turn("<image>Q", "A"),)


# ---------------------------------------------------------------------------------------------------------
# specs


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("finevison:chartqa", "no data set 'finevison'; known are finevision, olmocr_mix"),
        ("finevision", "name a subset"),
        ("synth:card?cuont=3", "no key 'cuont'; known are count, held_out_fonts, max_lines"),
        ("synth:card?count=many", "count=many is no int"),
        ("synth:card?held_out_fonts=maybe", "held_out_fonts=maybe is no bool"),
        ("synth:card?count", "write key=value"),
        ("synth:card?seed=1&seed=2", "every key once"),
        ("synth:card?start=3&stop=2", "start=3, stop=2"),
        ("synth:card?count=0", "count=0"),
        ("folder", "name a folder"),
        ("folder:nowhere", "nowhere: no such folder"),
        ("jsonl:nowhere.jsonl", "no such file"),
        ("llava_instruct:x.json", "images=FOLDER"),
        ("olmocr_mix:train-s2pdf", "pdfs=FOLDER"),
        ("parquet:nowhere.parquet", "nowhere.parquet: no such data file"),
        ("gsm8k?path=nowhere", "nowhere: no such file or folder"),
        ("plain_text?path=.&chars=-1", "chars=-1"),
        ("plain_text?path=.&repo=fineweb", "repo=fineweb, shards=0: want OWNER/NAME"),
    ],
)
def test_specs_that_mean_nothing(spec, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.parquet", [{"text": "x"}])
    with pytest.raises(UsageError, match=complaint):
        make_task(spec)


def test_every_name_is_known_to_the_match_and_to_the_docs():

    for name in NAMES:
        assert name in (tasks.__doc__ or "")
        with pytest.raises(UsageError) as caught:
            make_task(f"{name}:what?nonsense=1")
        assert "no key 'nonsense'" in str(caught.value) or "name " in str(caught.value)
