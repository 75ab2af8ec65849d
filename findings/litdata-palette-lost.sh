#!/bin/sh
# litdata forgets the palette of a picture, so that a page of few colours comes back black on black.
#
# Scans and pages of print are often kept as PNGs with a palette, since these are small. litdata stores such an opened
# picture as mode, size and numbers of colours, and gives it back in mode P with an even ramp of greys: colours 0 to 3
# of 256 are four blacks. Its size and mode are right, only the page is empty, and the model learns to write text
# from black pages. Pages in two tones (mode 1), greys or RGB come back as they were. Convert to RGB before
# handing a picture over. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet litdata==0.2.76 torch==2.13.0 pillow==13.0.0
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

import litdata
from PIL import Image, ImageDraw

page = Image.new("RGB", (60, 40), "white")
ImageDraw.Draw(page).rectangle((0, 0, 29, 39), fill="black")
page.quantize(4).save("P.png")
for mode in ("1", "L", "RGB"):
    page.convert(mode).save(f"{mode}.png")
MODES = ["1", "L", "RGB", "P"]


def opened(mode):
    return {"page": Image.open(f"{mode}.png")}


def tones(picture):
    """The mode, and the grey of the black half and of the white half."""
    grey = picture.convert("L")
    return picture.mode, grey.getpixel((5, 5)), grey.getpixel((50, 5))


if __name__ == "__main__":
    print("litdata", importlib.metadata.version("litdata"))
    litdata.optimize(opened, MODES, output_dir="out", chunk_size=4, num_workers=1, verbose=False)
    back = {}
    for row in litdata.StreamingDataset("out"):
        mode, *found = tones(row["page"])
        back[mode] = found
    for mode in MODES:
        print(f"mode {mode}: written {tones(opened(mode)['page'])[1:]}, read {back[mode]}")
    as_known = all(back[mode] == [0, 255] for mode in ("1", "L", "RGB")) and max(back["P"]) < 8
    sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py 2> err.log || { cat err.log; exit 1; }
