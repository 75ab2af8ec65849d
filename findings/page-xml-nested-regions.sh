#!/bin/sh
# PAGE XML: a text region within a text region is lost by page-to-alto, and dinglehopper loses it or counts it twice.
#
# PAGE lets text regions hold text regions (a letter head with its address, a caption in a frame). OCR-D's own
# classes give both lines of the page below. page-to-alto writes the outer one alone, with exit code 0 and mostly
# with a pointer to the block that it has left out. dinglehopper, which measures error rates, reads the inner text
# never, once or twice by the level and the reading order; with an order that groups the regions as the standard
# says, it is the outer text that it leaves out. To avoid it: flatten the regions before. Ends with 0 as long as
# this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet ocrd-page-to-alto==2.2.12 ocrd==3.13.3 dinglehopper==0.11.0
cat > show.py <<'PYTHON'
import importlib.metadata
import re
import subprocess
import sys

from dinglehopper.ocr_files import extract
from ocrd_models.ocrd_page import parse

PLACE = '<Coords points="0,0 500,0 500,100 0,100"/>'


def text(content):
    return f"<TextEquiv><Unicode>{content}</Unicode></TextEquiv>"


def line(name, content):
    word = f'<Word id="w{name}">{PLACE}{text(content)}</Word>'
    return f'<TextLine id="l{name}">{PLACE}{word}{text(content)}</TextLine>'


def region(name, body, content):
    return f'<TextRegion id="{name}">{PLACE}{body}{text(content)}</TextRegion>'


INNER = region("b", line("b", "inner"), "inner")
ORDERS = {
    "no order": "",
    "outer region alone": '<RegionRefIndexed index="0" regionRef="a"/>',
    "group": '<OrderedGroupIndexed id="h" index="0" regionRef="a">'
    '<RegionRefIndexed index="0" regionRef="b"/></OrderedGroupIndexed>',
}
PAGES = {"flat, no order": ("", region("a", line("a", "outer"), "outer") + INNER)}
PAGES |= {f"nested, {n}": (o, region("a", INNER + line("a", "outer"), "outer\ninner")) for n, o in ORDERS.items()}
EXPECTED = [  # the words of page-to-alto, dinglehopper by regions, dinglehopper by lines
    (["outer", "inner"], ["outer", "inner"], ["outer", "inner"]),
    (["outer"], ["outer", "inner", "inner"], ["outer", "inner"]),
    (["outer"], ["outer", "inner"], ["outer"]),
    (["outer"], ["inner"], ["inner"]),
]
print(*(f"{one} {importlib.metadata.version(one)}" for one in ("ocrd-page-to-alto", "dinglehopper", "ocrd")))
as_known = True
for (name, (order, body)), expected in zip(PAGES.items(), EXPECTED):
    order = order and f'<ReadingOrder><OrderedGroup id="g">{order}</OrderedGroup></ReadingOrder>'
    with open("page.xml", "w") as file:
        file.write(f"""<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><Metadata>
<Creator>me</Creator><Created>2024-01-01T00:00:00</Created><LastChange>2024-01-01T00:00:00</LastChange></Metadata>
<Page imageFilename="a.png" imageWidth="600" imageHeight="800">{order}{body}</Page></PcGts>""")
    command = ["venv/bin/page-to-alto", "--no-check-border", "page.xml"]
    alto = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = re.findall('CONTENT="(.*?)"', alto)
    by_regions, by_lines = (extract("page.xml", textequiv_level=level).text.split() for level in ("region", "line"))
    lines = parse("page.xml", silence=True).get_Page().get_AllTextLines()
    whole = [one.get_TextEquiv()[0].Unicode for one in lines]
    print(f"{name}: OCR-D {whole}, page-to-alto {words}, dinglehopper by regions {by_regions}, by lines {by_lines}")
    as_known &= whole == ["outer", "inner"] and (words, by_regions, by_lines) == expected
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
