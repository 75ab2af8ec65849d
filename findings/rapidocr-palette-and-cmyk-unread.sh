#!/bin/sh
# rapidocr reads nothing from a PNG with a palette, a JPEG in CMYK or a 16-bit scan whose RGB twin it reads at once.
#
# It takes the numbers of the file for grey levels: of a palette the indices (0 to 3 for four colours, black on black),
# of CMYK the fourth ink for transparency, of 16 bits the values as they are. All are valid pictures that scanners,
# print shops and tools which make PNGs small leave behind. The answer is the one of an empty page, so that a
# batch counts it as read and a comparison scores it as all wrong. Palettes of many colours hide it where their order
# happens to go from dark to light. Pass numpy arrays in BGR (`cv2.imread`, or `convert("RGB")` reversed) to avoid it.
# Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet rapidocr==3.10.0 onnxruntime==1.32.0 opencv-python-headless==5.0.0.93 pillow==13.0.0
cat > show.py <<'PYTHON'
import importlib.metadata
import logging
import sys

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

logging.disable(logging.CRITICAL)
page = Image.new("RGB", (900, 160), "white")
ImageDraw.Draw(page).text((30, 50), "Total amount due 17.50", "black", ImageFont.load_default(40))
grey = np.asarray(page.convert("L"))
page.save("rgb.png")
page.quantize(4).save("palette.png")
page.save("rgb.jpg", quality=95)
page.convert("CMYK").save("cmyk.jpg", quality=95)
Image.fromarray(grey).save("8bit.tif")
Image.fromarray(grey.astype(np.uint16) * 257).save("16bit.tif")

print("rapidocr", importlib.metadata.version("rapidocr"))
read = RapidOCR()
as_known = True
for name in ("rgb.png", "palette.png", "rgb.jpg", "cmyk.jpg", "8bit.tif", "16bit.tif"):
    as_array = cv2.cvtColor(np.asarray(Image.open(name).convert("RGB")), cv2.COLOR_RGB2BGR)
    if name == "16bit.tif":
        as_array = cv2.imread(name)
    with open(name, "rb") as file:
        content = file.read()
    ways = {"path": name, "bytes": content, "Pillow": Image.open(name), "array": as_array}
    texts = {way: " ".join(read(given).txts or ()) for way, given in ways.items()}
    print(f"{name} ({Image.open(name).mode}):", texts)
    lost = name in ("palette.png", "cmyk.jpg", "16bit.tif")
    for way, text in texts.items():
        as_known &= text == ("" if lost and way != "array" else "Total amount due 17.50")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
