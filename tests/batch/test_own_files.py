"""The output of a batch may lie in the folder that it reads, or be that folder."""

from pathlib import Path

from PIL import Image

from nanoocr.cli import main
from nanoocr.cli.batch_inputs import documents, named
from nanoocr.folders import is_document

PNG = b"\x89PNG\r\n\x1a\n"  # a file that begins so counts as a picture


def test_what_the_batch_itself_has_written_is_no_input(tmp_path, monkeypatch):
    """The output may lie in the folder that is read, or be that folder."""
    monkeypatch.chdir(tmp_path)
    Path("out/files").mkdir(parents=True)
    own = ("out/files/a.pdf", "out/pages-000001.parquet", "out/failed.parquet")
    for name in ("a.png", "out/b.png", *own):
        Path(name).write_bytes(PNG)
    for names in ([str(tmp_path)], ["a.png", "out"], ["a.png", *named(["out/*", "out/files/*"], None)]):
        assert {Path(one.name).name for one in documents(names, {}, True, Path("out"))} == {"a.png", "b.png"}


def test_the_ledger_is_not_looked_into(tmp_path, monkeypatch, capsys):
    """Closing it would end the locks that SQLite holds on it in this very process."""
    Image.new("L", (40, 20), 250).save(tmp_path / "a.png")
    seen = []
    monkeypatch.setattr("nanoocr.cli.inputs.is_document", lambda path: seen.append(path) or is_document(path))
    assert main(["batch", str(tmp_path), f"--out={tmp_path / 'out'}", "--workers=1"]) == 0
    assert seen == [tmp_path / "a.png"]
    assert "left out" not in capsys.readouterr().err
