#!/bin/sh
# docling-core's DocTags lose a table's rows, or the rest of a text, behind a "less than" sign, silently.
#
# DocTags are what docling's own vision-language models are trained to write. Texts go into them as they are, so that
# a cell "p < 0.05" puts a bare < between the tags. Who reads them back takes "< 0.05<nl>" for one tag: the mark of
# the row's end is gone with the number, and a table of two by two becomes one row of four. In a paragraph,
# "a<b" eats the text behind it. It hurts whoever makes training pairs from documents of science, or scores a
# model's DocTags against them. To avoid it: keep the document as JSON, or replace < in texts by &lt; before and
# after. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet docling-core==2.104.0
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

from docling_core.types.doc import DocItemLabel, DoclingDocument, TableCell, TableData
from docling_core.types.doc.document import DocTagsDocument


def cell(text, row, column):
    return TableCell(
        text=text,
        start_row_offset_idx=row,
        end_row_offset_idx=row + 1,
        start_col_offset_idx=column,
        end_col_offset_idx=column + 1,
        column_header=row == 0,
    )


def make(header, text):
    document = DoclingDocument(name="made")
    cells = [cell("age", 0, 0), cell(header, 0, 1), cell("17", 1, 0), cell("yes", 1, 1)]
    document.add_table(TableData(table_cells=cells, num_rows=2, num_cols=2))
    document.add_text(label=DocItemLabel.TEXT, text=text)
    return document


def look(document):
    (table,) = document.tables
    size = table.data.num_rows, table.data.num_cols
    return size, [one.text for one in table.data.table_cells], [one.text for one in document.texts]


def by_tags(document):
    pairs = DocTagsDocument.from_doctags_and_image_pairs([document.export_to_doctags()], None)
    return DoclingDocument.load_from_doctags(pairs)


print("docling-core", importlib.metadata.version("docling-core"))
for sign, text in ((">", "we see a>b here"), ("<", "we see a<b here")):
    document = make(f"p {sign} 0.05", text)
    print(f"with {sign}: tags {document.export_to_doctags()!r}")
    before, by_json = look(document), look(DoclingDocument.model_validate_json(document.model_dump_json()))
    after = look(by_tags(document))
    print(f"  before: {before}\n  after:  {after}")
    if sign == ">":
        as_known = before == by_json == after
    else:
        as_known &= before == by_json and after == ((1, 4), ["age", "p", "17", "yes"], ["we see a"])
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
