"""Every folder of examples/ is read, and all of them say the same: what the project's own script wrote."""

from pathlib import Path

import pytest

from nanoocr.finetune.sources import gather
from scripts.dev import make_examples

EXAMPLES = Path(make_examples.ROOT) / "examples"
WHOLE = ("text", "jsonl/rows.jsonl", "parquet/rows.parquet")
PLACED = ("page", "alto", "hocr", "label_studio/export.json", "label_studio_min/export.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The examples, written anew."""
    folder = tmp_path_factory.mktemp("examples")
    make_examples.main([f"--out={folder}"])
    return folder


def lines_of(found):
    return [" ".join(line.split()) for line in found.text.splitlines()]


@pytest.mark.parametrize("name", [*WHOLE, *PLACED])
@pytest.mark.parametrize("stored", [True, False])
def test_every_format_is_read_whole(made, name, stored):
    notes = [make_examples.draw(number) for number in range(make_examples.DOCUMENTS)]
    found = gather((EXAMPLES if stored else made) / name)
    assert not found.problems and len(found.documents) == len(notes)
    assert all(line.quad[2][0] < note.image.width for note in notes for line in note.lines)
    for document, note in zip(found.documents, notes, strict=True):
        assert lines_of(document) == [line.text for line in note.lines]
        assert document.kind == ("boxes" if name in PLACED else "text")
        for line, true in zip(document.lines, note.lines, strict=False):
            assert all(
                abs(a - b) <= 1.5 for p, q in zip(line.quad, true.quad, strict=True) for a, b in zip(p, q)
            )


@pytest.mark.parametrize("name", ["crops", "crops/list.tsv"])
@pytest.mark.parametrize("stored", [True, False])
def test_line_crops_are_read_by_name_and_by_list(made, name, stored):
    notes = [make_examples.draw(number) for number in range(make_examples.DOCUMENTS)]
    found = gather((EXAMPLES if stored else made) / name)
    assert {one.kind for one in found.documents} == {"crop"}
    assert {one.group for one in found.documents} == {note.name for note in notes}
    assert sorted(one.text for one in found.documents) == sorted(x.text for n in notes for x in n.lines)


def test_what_is_stored_is_what_the_script_writes(made):
    texts = [p.relative_to(EXAMPLES) for p in EXAMPLES.rglob("*") if p.suffix in (".txt", ".json", ".tsv")]
    assert texts and all((EXAMPLES / name).read_bytes() == (made / name).read_bytes() for name in texts)
