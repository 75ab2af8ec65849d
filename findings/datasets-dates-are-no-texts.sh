#!/bin/sh
# datasets turns the transcriptions of a set of dates into times, and those of amounts in a CSV into floats.
#
# A folder of pictures of dates (fields of receipts and forms) with metadata.jsonl has the text of each picture as a
# quoted string. Where every string of the column looks like a date, the column becomes timestamps: "2024-05-01" and
# "2024-05-01 00:00" are then one. Who says that the column is a string gets "2024-05-01 00:00:00", a text that no
# picture shows, to train on and to be scored by. One other text in the file and all are as written, so that a
# sample of a mixed set does not show it. In metadata.csv, quoted as it may be, "007" is 7.0, which naming the type
# does avoid, and "N/A" and "None" are no text, which it does not. Dates with slashes are left alone. To avoid it, keep
# dates in a CSV or read the texts from JSON by oneself. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet datasets==5.2.0 pillow==13.0.0
cat > show.py <<'PYTHON'
import csv
import datetime
import importlib.metadata
import json
import os
import sys

import datasets
from PIL import Image

datasets.disable_progress_bars()


def read(name, kind, texts, **options):
    """What a folder of pictures with these transcriptions gives back."""
    os.makedirs(name)
    with open(f"{name}/metadata.{kind}", "w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        if kind == "csv":
            writer.writerow(["file_name", "text"])
        for number, text in enumerate(texts):
            Image.new("L", (90, 30), 255).save(f"{name}/{number}.png")
            if kind == "csv":
                writer.writerow([f"{number}.png", text])
            else:
                file.write(json.dumps({"file_name": f"{number}.png", "text": text}) + "\n")
    rows = datasets.load_dataset("imagefolder", data_dir=name, split="train", cache_dir="cache", **options)
    return [row["text"] for row in rows]


DATES = ["2024-05-01", "2024-05-01 00:00", "2023-11-30"]
TIMES = ["2024-05-01 00:00:00", "2024-05-01 00:00:00", "2023-11-30 00:00:00"]
SLASHES = ["01/05/2024", "30/11/2023"]
typed = {"features": datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})}
print("datasets", importlib.metadata.version("datasets"))
as_known = True
for number, (kind, written, options, expected) in enumerate(
    [
        ("jsonl", DATES, {}, [datetime.datetime.fromisoformat(time) for time in TIMES]),
        ("jsonl", DATES, typed, TIMES),
        ("jsonl", [*DATES, "Total"], {}, [*DATES, "Total"]),
        ("jsonl", SLASHES, {}, SLASHES),
        ("jsonl", ["007", "17.50"], {}, ["007", "17.50"]),
        ("csv", DATES, {}, DATES),
        ("csv", ["007", "17.50"], {}, [7.0, 17.5]),
        ("csv", ["007", "17.50"], typed, ["007", "17.50"]),
        ("csv", ["N/A", "None", "Total"], typed, [None, None, "Total"]),
    ]
):
    found = read(str(number), kind, written, **options)
    print(f"{kind}{', typed as string' if options else ''}: {written} is read as {[str(text) for text in found]}")
    as_known &= found == expected
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
