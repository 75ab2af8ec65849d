"""The examples of the guide run as they stand there."""

import os
import re
from pathlib import Path

from PIL import Image

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "formats.md"


def test_the_examples_of_the_guide_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (600, 400), 255).save("scan.png")
    names: dict = {}
    examples = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for example in examples:
        exec(example, names)
    assert len(examples) == 2
    assert capsys.readouterr().out.startswith("Hello\n")
    assert sorted(os.listdir()) == ["out", "overlay.png", "overlay.svg", "scan.png"]
    assert sorted(os.listdir("out")) == ["scan.hocr", "scan.tsv"]
