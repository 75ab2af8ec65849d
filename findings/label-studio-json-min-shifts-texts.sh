#!/bin/sh
# Label Studio's JSON-MIN export of an OCR project gives the text of one region to another, silently.
#
# Regions and their texts become two lists without the ids that pair them. A region whose text was left empty is
# in the first list and not in the second, so that every text behind it moves up by one place, and only the
# lengths of the lists tell. The full JSON export of the same task keeps the ids. Ends with 0 as long as this is
# so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet label-studio-sdk==2.1.2
cat > show.py <<'PYTHON'
import json
import os
import sys

from label_studio_sdk.converter import Converter

PROJECT = """<View><Image name="image" value="$ocr"/><Rectangle name="bbox" toName="image"/>
<TextArea name="transcription" toName="image" perRegion="true"/></View>"""
SAID = {"a": "first line", "b": None, "c": "third line"}  # nobody has typed the second one


def results(region, top):
    place = {"x": 5, "y": top, "width": 50, "height": 10, "rotation": 0}
    common = {"id": region, "to_name": "image", "original_width": 600, "original_height": 200}
    yield {**common, "from_name": "bbox", "type": "rectangle", "value": place}
    if SAID[region]:
        value = {**place, "text": [SAID[region]]}
        yield {**common, "from_name": "transcription", "type": "textarea", "value": value}


done = [one for i, region in enumerate(SAID) for one in results(region, 10 + 20 * i)]
task = {"id": 1, "data": {"ocr": "scan.png"}, "annotations": [{"id": 1, "completed_by": 1, "result": done}]}
os.mkdir("in")
json.dump([task], open("in/task.json", "w"))
Converter(PROJECT, "in").convert_to_json_min("in", "out")
(brief,) = json.load(open("out/result.json"))
tops, texts = [region["y"] for region in brief["bbox"]], brief["transcription"]
print("tops of regions, per cent:", tops)
print("texts:                    ", texts)
shifted = len(tops) == 3 and texts == ["first line", "third line"]
print("the text of the third region is the second of the list, without a sign" if shifted else "paired by now")
sys.exit(0 if shifted else 1)
PYTHON
venv/bin/python show.py
