"""FineVision (HuggingFaceM4/FineVision): pictures and conversations of 185 subsets in one schema.

Rows may have several pictures or none. Ratings go from 1 to 5; a null means unrated, and is always kept.
Subsets in docling's markup become markdown (nanoocr/tasks/doctags.py), with a matching prompt.
`prompt="stored"` leaves all texts as they are, except that literal picture marks are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanoocr.config import PROMPT
from nanoocr.data.rows import BadRowError, FilteredRowError, Row, Turn, checked_row, row_from_record
from nanoocr.data.shards import Shards
from nanoocr.data.task import ParquetTask
from nanoocr.errors import UsageError
from nanoocr.tasks.common import FREE_OCR, PARSE_FIGURE, TO_MARKDOWN, answered, without_marks_of
from nanoocr.tasks.doctags import DocTagsError, doctags_to_markdown, is_doctags

REPO = "HuggingFaceM4/FineVision"
RATINGS = ("relevance", "image_correspondence", "visual_dependency", "formatting")
OCR_SUBSETS = ("olmOCR-mix-0225-documents", "olmOCR-mix-0225-books")
DOCTAGS_PROMPTS = {
    "DoclingMatix": TO_MARKDOWN,
    "SynthChartNet": PARSE_FIGURE,
    "SynthFormulaNet": FREE_OCR,
    "SynthCodeNet": FREE_OCR,
}
PROMPTS = {**dict.fromkeys(OCR_SUBSETS, PROMPT), **DOCTAGS_PROMPTS}
STORED = "stored"


def columns(least: Mapping[str, int]) -> list[str]:
    """The columns that the filter `least` needs."""
    return ["images", "texts", "source", *(f"{rating}_min" for rating in least if least[rating] > 1)]


class FineVision(ParquetTask):
    """One subset. `least` maps rating names to the lowest rating kept; `shards` need its `columns`."""

    def __init__(
        self,
        shards: Shards,
        subset: str,
        prompt: str = "",
        least: Mapping[str, int] | None = None,
        start: int = 0,
        stop: int | None = None,
        step: int = 1,
    ) -> None:
        super().__init__(shards, start, stop, step)
        self.subset = subset
        self.least = dict(least or {})
        self.prompt = prompt or PROMPTS.get(subset, STORED)
        if unknown := [rating for rating in self.least if rating not in RATINGS]:
            raise UsageError(f"no rating {unknown[0]!r}: known are {', '.join(RATINGS)}")
        if self.prompt != STORED and subset not in PROMPTS:
            raise UsageError(
                f"prompt={prompt}: the questions of {subset} are its own; only those of "
                f"{', '.join(PROMPTS)} can be another"
            )

    def read(self, index: int) -> Row:
        """The record, its texts cleaned or converted. Raises FilteredRowError where a rating is too low."""
        record, name = self.shards[index], self.shards.name_of(index)
        self._check_ratings(record, name)
        row = row_from_record(record, name, self.shards.folder_of(index))
        turns = [self._turn(turn, name) for turn in without_marks_of(row.turns, len(row.pictures))]
        row = checked_row(name, row.pictures, turns, row.source or self.subset)
        return row if self.subset in OCR_SUBSETS else answered(row)  # in OCR subsets a page may be blank

    def _check_ratings(self, record: Mapping[str, Any], name: str) -> None:
        for rating, least in self.least.items():
            value = record.get(f"{rating}_min")
            if value is not None and value < least:
                raise FilteredRowError(f"{name}: its {rating} is {value}, below {least}")

    def _turn(self, turn: Turn, name: str) -> Turn:
        if self.prompt != STORED and self.subset in OCR_SUBSETS:
            return Turn(self.prompt, turn.assistant)
        if self.prompt != STORED and is_doctags(turn.assistant):
            try:
                return Turn(self.prompt, doctags_to_markdown(turn.assistant))
            except DocTagsError as error:
                raise BadRowError(f"{name}: not DocTags, {error}") from error
        return turn
