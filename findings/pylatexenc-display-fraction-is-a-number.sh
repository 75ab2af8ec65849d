#!/bin/sh
# pylatexenc makes "12" of \dfrac{1}{2} but "1/2" of \frac{1}{2}, and no difference between a square and a cube root.
#
# Benchmarks of document parsing (OmniDocBench for one) turn inline formulas into plain text with it before they
# count letters. A macro that it does not know is dropped and its arguments are left, one beside the other: that
# is so of \dfrac, \tfrac, \cfrac and \binom, which are common in papers. An optional argument, as in \sqrt[3]{x}, is
# dropped, and \xrightarrow{f} leaves nothing. So a right fraction in another size costs a third, and twelve for
# a half costs nothing. To avoid it: rewrite such macros (\dfrac to \frac) in truth and prediction before.
# Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pylatexenc==2.11 rapidfuzz==3.14.6
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

from pylatexenc.latex2text import LatexNodes2Text
from rapidfuzz.distance import Levenshtein

PAIRS = {  # truth and prediction, the distance of their texts
    (r"\frac{1}{2}", r"\frac12"): 0,
    (r"\dfrac{1}{2}", r"\frac{1}{2}"): 0.333,
    (r"\tfrac{1}{2}", r"\frac{1}{2}"): 0.333,
    (r"\dfrac{1}{2}", "12"): 0,
    (r"\dbinom{n}{k}", "nk"): 0,
    (r"\sqrt[3]{x}", r"\sqrt{x}"): 0,
    (r"A \xrightarrow{f} B", "A  B"): 0,
}
print("pylatexenc", importlib.metadata.version("pylatexenc"))
as_known = True
for pair, expected in PAIRS.items():
    texts = [LatexNodes2Text().latex_to_text(source) for source in pair]
    distance = round(Levenshtein.normalized_distance(*texts), 3)
    print(f"{pair[0]} and {pair[1]}: {texts[0]!r} and {texts[1]!r}, distance {distance}")
    as_known &= distance == expected
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py 2>/dev/null
