"""The command line: results on stdout, one sentence per mistake on stderr, and every exit code."""

from __future__ import annotations

import io
import json
import os
import re
import sys

import pytest

from nanoocr import cli
from nanoocr.inference.reader import Reader
from tests.inference.encoded_files import encoded, picture


@pytest.fixture
def nanoocr(files, folder, monkeypatch, capsys):
    """Run the command in the folder of the files: (exit code, stdout, stderr)."""
    monkeypatch.chdir(files)

    def call(*arguments: str, model: bool = True) -> tuple[int, str, str]:
        flags = [f"--model={folder}", "--device=cpu", "--max_tokens=5"] if model else []
        code = cli.main(["read", *arguments, *flags])
        return code, *capsys.readouterr()

    return call


def expected_text(folder, path) -> str:
    return Reader(folder, device="cpu").read(path, max_tokens=5).text


def test_one_picture_gives_its_text_alone(nanoocr, folder, files):
    code, out, err = nanoocr("a.png")
    assert (code, out) == (0, expected_text(folder, files / "a.png") + "\n")
    assert "a.png" in err  # progress, a plain line where stderr is no terminal
    assert "\x1b" not in err


def test_several_pictures_have_headers_and_keep_their_order(nanoocr, folder, files):
    texts = [expected_text(folder, files / name) for name in ("b.jpg", "a.png")]
    code, out, err = nanoocr("b.jpg", "a.png", "--max_batch=1")
    assert code == 0
    assert out == f"==> b.jpg <==\n{texts[0]}\n\n==> a.png <==\n{texts[1]}\n"
    assert "read 2 of 2 pages" in err
    assert nanoocr("b.jpg", "a.png", "--max_batch=2")[1] == out


def test_json_lines(nanoocr):
    code, out, _ = nanoocr("--json", "a.png", "none.png", "two.pdf")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 5
    assert [(r["file"], r["page"], r["status"]) for r in records] == [
        ("a.png", 1, "truncated"),
        ("none.png", 1, "error"),
        ("two.pdf", 1, "truncated"),
        ("two.pdf", 2, "truncated"),
    ]
    for record in records:
        keys = ["file", "page", "text", "status", "error", "seconds", "tokens", "confidence"]
        assert list(record) == [*keys, "width", "height", "quarter_turns", "left_out", "doubt", "lines"]
        assert list(record["tokens"]) == ["vision", "prompt", "text"]
    assert 0 < records[0]["confidence"] <= 1
    assert "none.png" in records[1]["error"]


def test_pdf_pages_are_chosen_and_set_apart(nanoocr):
    code, out, _ = nanoocr("two.pdf")
    first, second = out.split("\n\f")
    assert code == 0
    assert nanoocr("two.pdf", "--pages=2,1")[1] == f"{second.rstrip(chr(10))}\n\f{first}\n"
    code, out, err = nanoocr("two.pdf", "a.png", "--pages=3", "-q")
    assert code == 5
    assert "two.pdf has 2 pages, so there is no page 3" in err
    assert out.startswith("==> a.png <==")  # a PNG is one page, whatever is asked for


def test_tiff_pages_are_chosen_and_set_apart(nanoocr, files):
    picture(1).save(files / "b.png")
    picture(0).save(files / "two.tif", save_all=True, append_images=[picture(1)])
    texts = [nanoocr(name)[1] for name in ("a.png", "b.png")]
    assert nanoocr("two.tif")[:2] == (0, "\f".join(texts))
    record = json.loads(nanoocr("two.tif", "--pages=2", "--json")[1])
    alone = json.loads(nanoocr("b.png", "--json")[1])
    assert (record["page"], record["confidence"]) == (2, alone["confidence"])
    picture(0).save(files / "one.tif")
    assert nanoocr("one.tif", "--pages=1-end")[:2] == (0, texts[0])
    code, out, err = nanoocr("one.tif", "--pages=2-end")
    assert (code, out) == (3, "")
    assert "one.tif has 1 page, so there is no page 2." in err


def test_folder_is_read_recursively_in_the_order_in_which_people_count(nanoocr, files, tmp_path):
    for name in ("in/z.png", "in/m/2.PNG", "in/m/10.png", "in/a.png", "in/.hidden.png", "in/.git/x.png"):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(encoded(picture(0)))
    (files / "in/notes.txt").write_text("no picture")
    code, out, err = nanoocr("--json", "in")
    names = [json.loads(line)["file"] for line in out.splitlines()]
    assert (code, names) == (0, ["in/a.png", "in/m/2.PNG", "in/m/10.png", "in/z.png"])
    assert err.startswith("1 file left out: notes.txt\n")
    (files / "one").mkdir()
    (files / "one/a.png").write_bytes(encoded(picture(0)))
    assert nanoocr("one")[1].startswith("==> one/a.png <==\n")


@pytest.mark.parametrize("name", ["a.png", "two.pdf"])
def test_stdin_equals_the_file(nanoocr, files, monkeypatch, name):
    expected = nanoocr(name)[1]
    stdin = io.TextIOWrapper(io.BytesIO((files / name).read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert nanoocr("-")[:2] == (0, expected)


def test_a_closed_stdin_is_wrong_usage(nanoocr, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert nanoocr("-") == (2, "", "error: - (stdin) cannot be read: it is closed\n")
    assert nanoocr("a.png")[0] == 0


def test_a_closed_stderr_says_nothing_and_stdout_nothing_else(nanoocr, monkeypatch):
    expected = nanoocr("a.png", "b.jpg", "none.png")[:2]
    monkeypatch.setattr(sys, "stderr", None)
    assert nanoocr("a.png", "b.jpg", "none.png")[:2] == expected


def test_quiet_says_nothing_on_success(nanoocr):
    assert nanoocr("-q", "a.png", "b.jpg")[2] == ""


def test_output_file(nanoocr, files):
    expected = nanoocr("a.png", "b.jpg")[1]
    assert nanoocr("a.png", "b.jpg", "--output=out.txt")[:2] == (0, "")
    assert (files / "out.txt").read_text() == expected


def test_output_replaces_an_older_file_once_there_is_a_page(nanoocr, files):
    (files / "out.txt").write_text("an older reading, longer than the new one\n" * 9)
    expected = nanoocr("a.png")[1]
    assert nanoocr("a.png", "-o", "out.txt")[0] == 0
    assert (files / "out.txt").read_text() == expected
    assert nanoocr("none.png", "-o", "out.txt")[0] == 3  # this is what there is to say now
    assert (files / "out.txt").read_text() == ""


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs /dev/null")
def test_output_may_be_a_device(nanoocr):
    assert nanoocr("a.png", "--output=/dev/null")[0] == 0


def test_prompt_changes_the_text(nanoocr):
    assert nanoocr("a.png", "--prompt=What is the total?")[1] != nanoocr("a.png")[1]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text.png", "not a picture"),
        ("cut.png", "damaged or cut off"),
        ("zero.png", "zero bytes"),
        ("huge.png", "too large: 60000 x 60000"),
        ("none.png", "does not exist"),
        ("locked.pdf", "encrypted"),
        ("empty_folder", "no pictures"),
    ],
)
def test_bad_input_is_named_in_one_sentence(nanoocr, files, name, reason):
    (files / "empty_folder").mkdir()
    code, out, err = nanoocr(name)
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert name in err
    assert reason in err
    code, out, err = nanoocr(name, "a.png", "--json", "-q")
    assert code == 5
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["error", "truncated"]
    assert json.loads(out.splitlines()[0])["error"] in err
    assert err.count("\n") == 1


def test_a_name_too_long_for_the_file_system_spoils_only_itself(nanoocr, folder, files):
    code, out, err = nanoocr("x" * 300, "a.png", "-q")
    assert (code, out) == (5, f"==> a.png <==\n{expected_text(folder, files / 'a.png')}\n")
    assert re.fullmatch(r"error: x{300} cannot be opened: [^\n]*\n", err)
    assert nanoocr("x" * 300)[0] == 3


def test_nothing_to_read_needs_no_model(nanoocr, monkeypatch):
    monkeypatch.setattr(Reader, "__init__", lambda *_, **__: pytest.fail("loaded a model for nothing"))
    assert nanoocr("none.png")[0] == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["read"], "FILE"),
        (["write", "a.png"], "write"),
        (["read", "a.png", "--jsno"], "--jsno"),
        (["read", "a.png", "--mod=x"], "--mod=x"),  # no guessing from a beginning
        (["read", "a.png", "--max_tokens=many"], "many"),
        (["read", "a.png", "--max_tokens=0"], "'0'"),
        (["read", "a.png", "--pages=3-1"], "3-1"),
        (["read", "a.png", "-o", ""], "--output is empty"),
        (["read", "a.png", "--overlay="], "--overlay is empty"),
        (["read", "-", "-"], "stdin"),
        (["read", "a.png", "--dtype=int8"], "int8"),
        (["read", "a.png", "--device=abacus"], "abacus"),
        (["raed", "a.png"], "did you mean read?"),
        (["a.png"], "nanoocr read a.png"),
        (["read", "a.png", "--jsno"], "did you mean --json?"),
        (["read", "a.png", "--max-token=3"], "did you mean --max"),
        (["info", "--modle=x"], "did you mean --model?"),
        (["export", "--ot=x"], "did you mean --out?"),
        (["read", "a.png", "--min_confidence=nan"], "from 0 to 1"),
        (["read", "a.png", "--mark_below=2"], "'2' is not a number from 0 to 1, as 0.8"),
        (["read", "a.png", "--min_confidence=0.5"], "whole pictures"),
        (["read", "a.png", "--threads=100000"], "--threads=100000"),
        (["read", "a.png", "--format=docx"], "docx"),
        (["read", "a.png", "--format=txt", "--json"], "--json"),
        (["read", "a.png", "--format=txt,md"], "-o texts/"),
        (["read", "a.png", "--format=pdf"], "-o scan.pdf"),
        (["read", "a.png", "b.jpg", "--format=alto"], "-o texts/"),
    ],
)
def test_wrong_usage(nanoocr, folder, capsys, arguments, named):
    assert cli.main([*arguments, f"--model={folder}"] if "whole" in named else arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert named in err


def test_missing_model(nanoocr, capsys, files):
    assert cli.main(["read", "a.png", "--model=nowhere"]) == 4
    assert re.fullmatch(r"error: [^\n]*nowhere[^\n]*\n", capsys.readouterr().err)
    assert cli.main(["info", "--model=nowhere"]) == 4


def test_damaged_model(folder, files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    (files / "model").mkdir()
    for path in folder.iterdir():
        content = bytearray(path.read_bytes())
        if path.name == "model.safetensors":
            content[-1] ^= 1
        (files / "model" / path.name).write_bytes(content)
    assert cli.main(["read", "a.png", "--model=model"]) == 4
    assert "sha256" in capsys.readouterr().err


def test_output_that_cannot_be_written(nanoocr):
    code, out, err = nanoocr("a.png", "--output=no/such/folder/out.txt")
    assert (code, out) == (6, "")
    assert re.fullmatch(r"error: no/such/folder/out.txt cannot be written: [^\n]*\n", err)


@pytest.mark.parametrize("flag", ["--mode=huge", "--dtype=int8", "--device=abacus", "--model=nowhere"])
def test_a_mistake_leaves_an_older_output_alone(nanoocr, files, flag):
    (files / "out.txt").write_text("an older reading")
    code, _, err = nanoocr("a.png", "--output=out.txt", flag, model=False)
    assert (code, err.count("\n")) == (4 if "model" in flag else 2, 1)
    assert (files / "out.txt").read_text() == "an older reading"


@pytest.mark.parametrize("inputs", [["b.jpg", "a.png"], ["."]])
@pytest.mark.parametrize("output", ["a.png", "link.txt"])
def test_output_never_replaces_an_input(nanoocr, files, inputs, output):
    before = (files / "a.png").read_bytes()
    os.link(files / "a.png", files / "link.txt")
    code, out, err = nanoocr(*inputs, f"--output={output}")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"error: --output={output} is (a\.png|link\.txt), [^\n]*\n", err)
    assert (files / "a.png").read_bytes() == before


def test_interrupted(nanoocr, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reader, "read_pictures", interrupt)
    assert nanoocr("a.png") == (130, "", "interrupted\n")
