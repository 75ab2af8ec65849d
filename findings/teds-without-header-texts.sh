#!/bin/sh
# table_recognition_metric gives a table whose header texts are all wrong a TEDS of 1, as if it were right.
#
# Texts are compared in <td> alone. A <th>, which is what most models and Markdown converters write in the first row,
# is a node without content to it, so that any text will do; a <th> instead of a <td> costs a whole node and
# is then compared no more. A bare <table>, without <html><body> around it, gets 0 against itself. TEDS by its
# definition was made for a set without <th>, and carrying it to others has this price. To avoid it: make <th> into
# <td> and wrap the table in both texts first. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet table_recognition_metric==0.0.6
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

from table_recognition_metric import TEDS


def table(head, tag):
    row = "".join(f"<{tag}>{text}</{tag}>" for text in head)
    return f"<table><tr>{row}</tr><tr><td>17</td><td>3</td></tr></table>"


def page(content):
    return f"<html><body>{content}</body></html>"


RIGHT, WRONG = ("Men", "Women"), ("xyz", "12345")
CASES = {  # truth, prediction, score
    "td, right": (page(table(RIGHT, "td")), page(table(RIGHT, "td")), 1),
    "td, wrong texts": (page(table(RIGHT, "td")), page(table(WRONG, "td")), 0.714),
    "th, right": (page(table(RIGHT, "th")), page(table(RIGHT, "th")), 1),
    "th, wrong texts": (page(table(RIGHT, "th")), page(table(WRONG, "th")), 1),
    "th, empty texts": (page(table(RIGHT, "th")), page(table(("", ""), "th")), 1),
    "th for td, right texts": (page(table(RIGHT, "td")), page(table(RIGHT, "th")), 0.714),
    "bare table, right": (table(RIGHT, "td"), table(RIGHT, "td"), 0),
}
print("table_recognition_metric", importlib.metadata.version("table_recognition_metric"))
as_known = True
for name, (truth, prediction, expected) in CASES.items():
    score = round(TEDS()(prediction, truth), 3)
    print(f"{name}: TEDS {score}")
    as_known &= score == expected
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
