#!/bin/sh
# The TEDS of docling-metrics-table counts a cell with one wrong letter as a cell that is all wrong.
#
# TEDS, as PubTabNet defines it, lets a cell's text cost its edit distance over its length, from 0 to 1. The fast
# TEDS of this package compares the cells' whole texts for equality, also where structure_only is off, so that one
# wrong letter of a hundred costs 1, as much as another text or as a cell that is missing. The slow scorer of the
# same package does count letters. A recognizer with small slips so looks far worse than in published tables. To
# avoid it: use the definition below, or this package for structure alone. Ends with 0 as long as this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet docling-metrics-table==0.16.0 apted==1.0.3 rapidfuzz==3.14.6 lxml==6.1.3
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

from apted import APTED, Config
from docling_metrics_table.docling_metrics_table import TableMetric, TableMetricHTMLInputSample, TableMetricKind
from lxml import html
from rapidfuzz.distance import Levenshtein

METRIC = TableMetric(metrics=[TableMetricKind.TEDS])


class ByDefinition(Config):
    def rename(self, one, other):
        if one.tag != other.tag or one.attrib != other.attrib:
            return 1.0
        if one.tag != "td":
            return 0.0
        return Levenshtein.normalized_distance(one.text or "", other.text or "")

    def children(self, node):
        return list(node)


def by_definition(one, other):
    trees = [html.fromstring(source) for source in (one, other)]
    most = max(len(list(tree.iter())) for tree in trees)
    return 1 - APTED(*trees, ByDefinition()).compute_edit_distance() / most


def by_docling(one, other, structure_only=False):
    sample = TableMetricHTMLInputSample(id="made", html_a=one, html_b=other, structure_only=structure_only)
    return METRIC.evaluate_sample(sample).teds.teds


def table(first):
    return f"<table><tr><td>{first}</td><td>17</td></tr><tr><td>Sum</td><td>3</td></tr></table>"


print("docling-metrics-table", importlib.metadata.version("docling-metrics-table"))
truth = "Transport of goods and of persons by rail, in millions of francs"
cases = {"the same": truth, "one letter": truth.replace("rail", "rai1"), "another text": "x" * len(truth)}
seen = {}
for name, text in cases.items():
    pair = table(truth), table(text)
    seen[name] = [round(score, 3) for score in (by_definition(*pair), by_docling(*pair), by_docling(*pair, True))]
    print(f"{name}: TEDS by its definition {seen[name][0]}, docling {seen[name][1]}, its structure {seen[name][2]}")
expected = {"the same": [1, 1, 1], "one letter": [0.998, 0.857, 1], "another text": [0.857, 0.857, 1]}
print("as known" if seen == expected else "this has changed")
sys.exit(seen != expected)
PYTHON
venv/bin/python -W ignore show.py
