#!/bin/sh
# pagexml-tools gives a line no text at all where its PAGE file holds a second reading of it, silently.
#
# PAGE lets a line have several TextEquiv, ordered by their index: the best reading and its alternatives, as OCR
# engines and editors such as LAREX (index 0 for the corrected text, 1 for the engine's) write them. With one, this
# library has the line's text; with two, whatever their order, the text is None and the line still counts as a line.
# A line whose words alone have texts, which PAGE allows too, has None as well. OCR-D's own classes have
# them all. It hurts whoever builds training sets or measures from such files: just the corrected lines
# are those without text. To avoid it: count lines without text, and keep one TextEquiv. Ends with 0 as long as this
# is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pagexml-tools==0.9.0 lxml==6.1.0
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

from lxml import etree
from pagexml.parser import parse_pagexml_file

PLACE = '<Coords points="0,0 500,0 500,100 0,100"/>'
LINES = {  # what a line holds, its text by this library
    "one reading": ("<TextEquiv><Unicode>Total 17</Unicode></TextEquiv>", "Total 17"),
    "two readings": (
        '<TextEquiv index="0"><Unicode>Total 17</Unicode></TextEquiv>'
        '<TextEquiv index="1"><Unicode>Tota1 17</Unicode></TextEquiv>',
        None,
    ),
    "words": (f'<Word id="w">{PLACE}<TextEquiv><Unicode>Total</Unicode></TextEquiv></Word>', None),
}
print("pagexml-tools", importlib.metadata.version("pagexml-tools"))
as_known = True
for name, (content, expected) in LINES.items():
    with open("page.xml", "w") as file:
        file.write(f"""<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><Metadata>
<Creator>me</Creator><Created>2024-01-01T00:00:00</Created><LastChange>2024-01-01T00:00:00</LastChange></Metadata>
<Page imageFilename="a.png" imageWidth="600" imageHeight="800"><TextRegion id="r">{PLACE}
<TextLine id="l">{PLACE}{content}</TextLine></TextRegion></Page></PcGts>""")
    texts = [line.text for line in parse_pagexml_file("page.xml").get_lines()]
    in_file = [one.text for one in etree.parse("page.xml").iterfind(".//{*}Unicode")]
    print(f"{name}: in the file {in_file}, as read {texts}")
    as_known &= texts == [expected]
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
