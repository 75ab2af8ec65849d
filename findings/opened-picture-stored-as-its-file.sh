#!/bin/sh
# datasets and litdata store an opened picture as the file it came from, so that each page of a TIFF becomes page 1.
#
# A picture that Pillow opened and that is not a copy still knows its file. Both libraries take that as leave to store
# the file (datasets: its path; litdata: the bytes of a JPEG) in place of the pixels they are given. Pages of a scan
# that are taken by `seek` all come back as the first page, each beside the text of its own; what was drawn on a picture
# (names blacked out) or made smaller in place is undone, so that boxes do not fit either. Nothing is said. Lazy
# `map` of datasets does it right, the eager one does not. `picture.copy()` before handing it over avoids it. Ends
# with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet datasets==5.2.0 litdata==0.2.76 torch==2.13.0 pillow==13.0.0
cat > show.py <<'PYTHON'
import importlib.metadata
import io
import sys

import datasets
from litdata.streaming.serializers import _SERIALIZERS
from PIL import Image, ImageDraw

datasets.disable_progress_bars()
GREYS = [10, 100, 200]  # each page is of one grey
first, *others = [Image.new("L", (60, 40), grey) for grey in GREYS]
first.save("scan.tif", save_all=True, append_images=others)
Image.new("RGB", (60, 40), "white").save("page.jpg")


def page(row, is_copied=False):
    picture = Image.open("scan.tif")
    picture.seek(row["number"])
    return {"picture": picture.copy() if is_copied else picture}


def greys(rows):
    return [row["picture"].getpixel((0, 0)) for row in rows]


for name in ("datasets", "litdata", "pillow"):
    print(name, importlib.metadata.version(name))
numbers = [{"number": number} for number in range(3)]
rows = datasets.Dataset.from_list(numbers)
pages = {
    "what Pillow reads": greys(map(page, numbers)),
    "map": greys(rows.map(page)),
    "from_generator": greys(datasets.Dataset.from_generator(lambda: map(page, numbers))),
    "lazy map": greys(rows.to_iterable_dataset().map(page)),
    "map of copies": greys(rows.map(page, fn_kwargs={"is_copied": True})),
}
for how, found in pages.items():
    print(f"grey of pages 1, 2, 3, {how}: {found}")
as_known = [found == GREYS for found in pages.values()] == [True, False, False, True, True]
as_known &= pages["map"] == pages["from_generator"] == GREYS[:1] * 3

edited = Image.open("page.jpg")
ImageDraw.Draw(edited).rectangle((0, 0, 60, 40), fill="black")
edited.thumbnail((30, 30))
for how, given in (("as it is", edited), ("copied", edited.copy())):
    kind = next(kind for kind in _SERIALIZERS.values() if kind.can_serialize(given))
    stored, _ = kind.serialize(given)
    back = Image.open(io.BytesIO(stored)) if how == "as it is" else kind.deserialize(stored)
    print(f"litdata, {given.size} {given.getpixel((5, 5))} {how}: stored {back.size} {back.getpixel((5, 5))}")
    as_known &= back.size == ((60, 40) if how == "as it is" else (30, 20))
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
