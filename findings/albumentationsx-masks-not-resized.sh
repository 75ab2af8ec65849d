#!/bin/sh
# AlbumentationsX: RandomSizedBBoxSafeCrop makes page, boxes and `mask` the size that was asked, and not the `masks`.
#
# It is the crop for pages with boxes, since no word is lost by it. A list of masks, one for each text line, as
# detectors of text are trained with, is cropped and then left at the size of the crop. So a line's mask does not
# lie where its box and its ink are. Who resizes or pads masks to the page before training never sees it by their
# shape. RandomSizedCrop, RandomResizedCrop and Resize do all of them alike. Pass the masks as the channels of one
# `mask`, or crop with BBoxSafeRandomCrop and then Resize. Ends with 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet albumentationsx==2.5.1 opencv-python-headless==5.0.0.93 torch==2.13.0 numpy
cat > show.py <<'PYTHON'
import importlib.metadata
import sys

import albumentations as A
import numpy as np

BOX = [150, 80, 210, 110]  # one line of ink on a page of 300 x 200 pixels
ink = np.zeros((200, 300), np.uint8)
ink[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
TRANSFORMS = {
    "RandomSizedBBoxSafeCrop": [A.RandomSizedBBoxSafeCrop(128, 128, p=1)],
    "BBoxSafeRandomCrop, Resize": [A.BBoxSafeRandomCrop(p=1), A.Resize(128, 128, p=1)],
    "RandomSizedCrop": [A.RandomSizedCrop((190, 200), (128, 128), p=1)],
    "Resize": [A.Resize(128, 128, p=1)],
}


def extent(mask):
    ys, xs = np.nonzero(mask)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def run(transforms, **masks):
    boxes = A.BboxParams("pascal_voc", label_fields=["lines"])
    page = ink[:, :, None].repeat(3, 2) * 255
    done = A.Compose(transforms, bbox_params=boxes, seed=1)(image=page, bboxes=np.array([BOX]), lines=[0], **masks)
    return done["image"][:, :, 0] > 127, done


print("albumentationsx", importlib.metadata.version("albumentationsx"))
as_known = True
for name, transforms in TRANSFORMS.items():
    page, done = run(transforms, masks=np.stack([ink]))
    box = [round(float(side)) for side in done["bboxes"][0][:4]]
    of_masks, seen = done["masks"][0], extent(page)
    page_again, again = run(transforms, mask=np.stack([ink, 1 - ink], 2))
    as_channel = extent(again["mask"][:, :, 0])
    print(f"{name}: page {page.shape}, ink {seen}, box {box}, in masks {extent(of_masks)} of {of_masks.shape}; "
          f"as a channel of mask {as_channel} where the ink is {extent(page_again)}")
    as_known &= np.abs(np.subtract(box, seen)).max() <= 2
    as_known &= np.abs(np.subtract(as_channel, extent(page_again))).max() <= 2
    is_off = of_masks.shape != page.shape and np.abs(np.subtract(extent(of_masks), seen)).max() > 5
    as_known &= is_off == (name == "RandomSizedBBoxSafeCrop")
sys.exit(not as_known)
PYTHON
venv/bin/python -W ignore show.py
