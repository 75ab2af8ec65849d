#!/bin/sh
# datasets cuts the zero bytes at the end of binary values as soon as a format is set, so that pictures lose rows.
#
# With `with_format("torch")` or "numpy", which training uses, a column of bytes goes through an array of numpy's type
# S, whose values have no zeros at their end. PNG and JPEG end otherwise and hide it. A BMP, a PPM, a TIFF or raw
# pixels whose last rows are black are cut: raw pixels get too short, a file is called truncated, and where somebody
# lets Pillow load truncated files, the end of the page is lost in silence. What such a `map` writes is cut
# for good. Without a format, or under Image(decode=False), the bytes are whole. Ends with 0 as long as this is so,
# else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet datasets==5.2.0 pillow==13.0.0 torch==2.13.0
cat > show.py <<'PYTHON'
import importlib.metadata
import io
import sys

import datasets
from PIL import Image

datasets.disable_progress_bars()
page = Image.new("L", (40, 30), 255)
page.paste(0, (0, 0, 40, 5))  # black edges above and below, as scanners leave them
page.paste(0, (0, 25, 40, 30))


def encoded(kind):
    file = io.BytesIO()
    page.save(file, kind)
    return file.getvalue()


print("datasets", importlib.metadata.version("datasets"))
as_known = True
for kind in ("raw", "PPM", "TIFF", "BMP", "PNG", "JPEG"):
    data = page.tobytes() if kind == "raw" else encoded(kind)
    rows = datasets.Dataset.from_dict({"data": [data]})
    typed = datasets.Dataset.from_dict({"data": [{"bytes": data, "path": None}]})
    typed = typed.cast_column("data", datasets.Image(decode=False))
    lengths = {
        "no format": len(rows[0]["data"]),
        "arrow": len(rows.with_format("arrow")[0]["data"][0].as_py()),
        "numpy": len(rows.with_format("numpy")[0]["data"]),
        "torch": len(rows.with_format("torch")[0]["data"]),
        "streamed, torch": len(next(iter(rows.to_iterable_dataset().with_format("torch")))["data"]),
        "mapped, numpy": len(rows.with_format("numpy").map(lambda row: row).with_format(None)[0]["data"]),
        "Image, numpy": len(typed.with_format("numpy")[0]["data"]["bytes"]),
    }
    print(f"{kind}, {len(data)} bytes:", lengths)
    cut = {name for name, length in lengths.items() if length < len(data)}
    whole = kind in ("PNG", "JPEG")
    as_known &= cut == (set() if whole else {"numpy", "torch", "streamed, torch", "mapped, numpy"})
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
