"""What scripts.data_look prints and draws of a folder with good and bad rows."""

from __future__ import annotations

import pytest
from PIL import Image

from nanoocr.commandline import run
from nanoocr.errors import OutputError, UsageError
from scripts.data_look import main, reason


@pytest.fixture
def scans(tmp_path):
    for i, text in enumerate(("Hello there", "word " * 2000, "fine")):
        Image.new("RGB", (128, 64), "white").save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(text)
    (tmp_path / "3.png").write_bytes(b"no picture")
    (tmp_path / "3.txt").write_text("text")
    (tmp_path / "4.txt").write_text("alone")
    return tmp_path


def test_rows_counts_and_reasons(scans, capsys):
    main([f"--task=folder:{scans}", "--count=1", "--scan=9", f"--out={scans / 'sheet.png'}"])
    printed = capsys.readouterr().out
    assert "0.png\n  source folder; pictures 128 x 64\n  asked  'Read.'\n  answer 'Hello there'" in printed
    assert "2.png\n" not in printed  # counted, not shown
    assert "4 rows; 4 looked at, 2 usable, 2 skipped" in printed
    assert "skipped 1: N tokens, N are allowed" in printed and "1.png: " in printed
    assert (
        "3.png is not a picture" in printed
        and "left out 1 files" in printed
        and "4.txt: no picture" in printed
    )
    with Image.open(scans / "sheet.png") as sheet:
        assert sheet.size == (1280, 340) and len(set(sheet.convert("L").getdata())) > 10


def test_token_counts_are_those_of_the_renderer(scans, capsys):
    main([f"--task=folder:{scans}?stop=1", "--preset=d20", "--mode=base"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  tokens "))
    numbers = [int(word) for word in line.split() if word.isdecimal()]
    # 273 of the base mode; bos, three marks of turns and the prompt; the answer and its end
    assert numbers[0] == 273 and numbers[1] > 4 and numbers[2] > 1


def test_wrong_flags_end_in_a_sentence(scans, tmp_path, capsys):
    with pytest.raises(UsageError, match="none of the rows"):
        main([f"--task=folder:{scans}?start=3"])
    with pytest.raises(UsageError, match="--count"):
        main([f"--task=folder:{scans}", "--count=0"])
    with pytest.raises(OutputError, match="--out="):
        main([f"--task=folder:{scans}", f"--out={tmp_path}/no/sheet.png"])
    with pytest.raises(UsageError, match="none of the rows"):
        main([f"--task=folder:{scans}", "--max_length=12"])
    assert run(main, ["--task=nothing:x"]) == 2 and "known are finevision" in capsys.readouterr().err


def test_equal_troubles_have_equal_reasons():
    assert reason("/data/a1.parquet: row 17: an answer is blank") == "an answer is blank"
    assert reason("a.jsonl: line 3: 2 <image> marks for 1 pictures") == reason(
        "b.jsonl: line 44: 5 <image> marks for 4 pictures"
    )
    assert reason("scans/3.png: part 'x' is odd") == "part '...' is odd"
