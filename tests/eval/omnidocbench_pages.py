"""Small pages for OmniDocBench's tests."""

from __future__ import annotations

from pathlib import Path

from nanoocr.eval.omnidocbench import (
    OmniPage,
)

A, B, C = "alphabravocharlie", "deltaechofoxtrot", "golfhotelindiajuliet"  # 17, 16, 20 letters
TABLE = "<table><tr><td>a</td><td>b</td></tr></table>"


def page(*dets: dict, name: str = "page.jpg", relation=(), **attributes) -> OmniPage:
    """Pieces in reading order."""
    numbered = [
        {"anno_id": i, "order": i, "category_type": "text_block", **det} for i, det in enumerate(dets, 1)
    ]
    annotation = {
        "page_info": {"image_path": name, "page_attribute": attributes},
        "layout_dets": numbered,
        "extra": {"relation": list(relation)},
    }
    return OmniPage(Path(name).stem, Path(name), annotation)


def text(content: str, **more) -> dict:
    return {"text": content, **more}
