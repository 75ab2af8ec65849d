#!/bin/sh
# Pillow: the negative of a one-bit page whose paper was given as 1 is blank, and so is its "white is zero" TIFF.
#
# In a picture of mode "1" one writes 1 or 255 for white; as an array, as PNG and as text for a recognizer both
# are the same. But 1 is kept as 1 and the negative is 255 less the number, so that 1 becomes 254, which is white
# again, as the letters are by then. The same step is taken where a page is saved as a TIFF whose tag 262 is 0, as
# faxes have it: that file is all black. All text is lost without a sign. It hurts whoever draws or thresholds pages
# for training and turns some of them dark, or writes fax files to test with. To avoid it: write 255. Ends with 0
# as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pillow==13.0.0 numpy==2.4.6
cat > show.py <<'PYTHON'
import sys

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageOps


def white(image):
    """How much of it is white, in per cent."""
    return round(100 * np.asarray(image.convert("L")).mean() / 255)


print("Pillow", PIL.__version__)
seen = {}
for paper in (255, 1):
    page = Image.new("1", (60, 20), paper)
    ImageDraw.Draw(page).rectangle((5, 5, 34, 14), fill=0)
    page.save("page.png")
    page.save("fax.tif", compression="group4", tiffinfo={262: 0})
    with Image.open("page.png") as png, Image.open("fax.tif") as fax:
        seen[paper] = white(page), white(png), white(fax), white(ImageOps.invert(page))
    names = ("the page", "its PNG", "its fax TIFF", "its negative")
    print(f"paper {paper}: per cent white:", dict(zip(names, seen[paper])))
as_known = seen == {255: (75, 75, 75, 25), 1: (75, 75, 0, 100)}
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
