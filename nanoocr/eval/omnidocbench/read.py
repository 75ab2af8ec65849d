"""Reads OmniDocBench from a local folder: `OmniDocBench.json`, and the pictures in `images/`, as on the hub.

On the hub `opendatalab/OmniDocBench` is v1.5 (1355 pages) and `Quivr/OmniDocBench` is v1.0 (981 pages). The
hub's data viewer shows only pictures; the annotation is a plain file beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoocr.errors import UsageError
from nanoocr.files import read_json_list

ANNOTATION = "OmniDocBench.json"


@dataclass(frozen=True)
class OmniPage:
    """A page: `id` is the picture's stem and the name of its prediction, `annotation` the official record."""

    id: str
    image: Path
    annotation: Mapping[str, Any]

    @property
    def attributes(self) -> tuple[str, ...]:
        """What the official code groups pages by: "language: english", "layout: ...", special issues."""
        named = self.annotation["page_info"].get("page_attribute") or {}
        single = [f"{name}: {value}" for name, value in named.items() if not isinstance(value, list)]
        issues = [issue for value in named.values() if isinstance(value, list) for issue in value]
        return (*single, *dict.fromkeys(str(issue) for issue in issues if "table" not in str(issue)))

    @property
    def markdown(self) -> str:
        """The truth as markdown in reading order, without items that have no place in it (page numbers)."""
        dets = [det for det in self.annotation["layout_dets"] if det.get("order") is not None]
        texts = (_det_markdown(det) for det in sorted(dets, key=lambda det: det["order"]))
        return "\n\n".join(text for text in texts if text)


def _det_markdown(det: Mapping[str, Any]) -> str:
    text = str(det.get("text") or det.get("html") or det.get("latex") or "").strip()
    return f"# {text}" if text and det.get("category_type") == "title" else text


def read_omnidocbench(path: str | Path) -> list[OmniPage]:
    """The pages of an annotation file, or of a folder with `OmniDocBench.json`; pictures are not opened.

    Raises:
        UsageError: the file is missing, not JSON, or a page (named by its number) is not of the schema.
    """
    path = Path(path)
    file = path / ANNOTATION if path.is_dir() else path
    entries = read_json_list(file, "pages", "name OmniDocBench.json or its folder")
    return [_page(entry, f"{file}: page {number}", file.parent) for number, entry in enumerate(entries)]


# The kinds of the fields of a block that the scores use; each may also be null.
FIELDS: dict[str, type | tuple[type, ...]] = {
    "text": str, "html": str, "latex": str, "order": (int, float), "anno_id": (int, str)
}  # fmt: skip


def _wrong_field(entry: Mapping[str, Any]) -> str:
    """What is wrong with a field of a page, in words; "" where nothing is."""
    for number, det in enumerate(entry["layout_dets"]):
        for field, kind in FIELDS.items():
            if det.get(field) is not None and not isinstance(det[field], kind):
                return f"block {number}: {field} is {str(det[field])[:60]}"
    attributes, extra = entry["page_info"].get("page_attribute"), entry.get("extra")
    relations = (extra.get("relation") if isinstance(extra, dict) else extra) or []
    if not isinstance(attributes, dict | None) or not isinstance(extra, dict | None):
        return "page_attribute and extra must be objects"
    if not isinstance(relations, list) or not all(isinstance(one, dict) for one in relations):
        return "extra.relation is not a list of objects"
    named = (one.get(end) for one in relations for end in ("source_anno_id", "target_anno_id"))
    odd = next((one for one in named if not isinstance(one, int | str | None)), None)
    return "" if odd is None else f"extra.relation names a block {odd}"


def _page(entry: Any, name: str, folder: Path) -> OmniPage:
    try:
        image = Path(entry["page_info"]["image_path"])
        well_formed = all(isinstance(det, dict) for det in entry["layout_dets"]) and bool(image.name)
    except (KeyError, TypeError) as error:
        raise UsageError(f"{name} needs page_info.image_path and layout_dets ({error!r})") from error
    if not well_formed:
        raise UsageError(f"{name}: layout_dets is not a list of blocks, or image_path is empty")
    if wrong := _wrong_field(entry):
        raise UsageError(f"{name}: {wrong}")
    return OmniPage(image.stem, folder / "images" / image.name, entry)
