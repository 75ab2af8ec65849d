"""What has been cut, kept beside the result: a stopped run need not find and read lines again."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nanoocr.files import write_file
from nanoocr.finetune.task import as_png
from nanoocr.finetune.types import CutDocument, LineStrip, TrueDocument

STRIPS, CUTS = "strips.parquet", "documents.json"


def fingerprint(documents: Sequence[TrueDocument], *more: object) -> str:
    """16 hexadecimal digits of all texts and places, the names and bytes of the pictures, and `more`."""
    total = hashlib.sha256()
    for document in documents:
        source = document.source
        content = source if isinstance(source, bytes) else source.read_bytes()
        told = (document.name, document.kind, document.text, document.group, document.page, document.lines)
        total.update(repr(told).encode())
        total.update(hashlib.sha256(content).digest())
    total.update(repr(more).encode())
    return total.hexdigest()[:16]


def save_cuts(folder: Path, mark: str, cuts: Sequence[CutDocument]) -> None:
    """Write the strips, and what is known of their documents; `mark` is the fingerprint of the data."""
    rows = [
        {
            **{k: v for k, v in asdict(strip).items() if k not in ("pixels", "boxes", "used")},
            "picture": as_png(strip.pixels),
            "used": list(strip.used),
            "boxes": strip.boxes.reshape(-1).tolist(),
        }
        for cut in cuts
        for strip in cut.strips
    ]
    stored = io.BytesIO()
    if rows:
        pq.write_table(pa.Table.from_pylist(rows), stored)
    write_file(folder / STRIPS, stored.getvalue())
    entries = [
        {
            "name": cut.document.name,
            "strips": len(cut.strips),
            "read": cut.read,
            "characters": cut.characters,
            "lost": dict(cut.lost),
            "left_out": list(cut.left_out),
            "contradicted": list(cut.contradicted),
        }
        for cut in cuts
    ]
    # Last: the strips count only where this file names them.
    write_file(folder / CUTS, json.dumps({"mark": mark, "documents": entries}).encode())


def load_cuts(folder: Path, mark: str, documents: Sequence[TrueDocument]) -> list[CutDocument] | None:
    """What `save_cuts` wrote, or None where it is missing, damaged, or of other data."""
    try:
        about = json.loads((folder / CUTS).read_bytes())
        if about["mark"] != mark:
            return None
        content = (folder / STRIPS).read_bytes()
        rows = pq.read_table(io.BytesIO(content)).to_pylist() if content else []
        by_name = {document.name: document for document in documents}
        strips = iter([_strip(row) for row in rows])
        return [_cut(by_name[entry["name"]], entry, strips) for entry in about["documents"]]
    except (OSError, ValueError, LookupError, TypeError, StopIteration, pa.ArrowException):
        return None


def _cut(document: TrueDocument, entry: dict[str, Any], strips: Any) -> CutDocument:
    return CutDocument(
        document=document,
        strips=tuple(next(strips) for _ in range(entry["strips"])),
        read=entry["read"],
        characters=entry["characters"],
        lost=Counter(entry["lost"]),
        left_out=tuple(entry["left_out"]),
        contradicted=tuple(entry["contradicted"]),
    )


def _strip(row: dict[str, Any]) -> LineStrip:
    pixels = np.asarray(Image.open(io.BytesIO(row["picture"])).convert("RGB"))
    return LineStrip(
        document=row["document"],
        group=row["group"],
        pixels=pixels,
        used=(row["used"][0], row["used"][1]),
        truth=row["truth"],
        read=row["read"],
        confidence=row["confidence"],
        chars=row["chars"],
        boxes=np.asarray(row["boxes"], dtype=np.float32).reshape(-1, 4),
    )
