"""ChartQA: questions about charts, with short answers.

The same data exists in three forms: the hub's copies HuggingFaceM4/ChartQA (query, label: a list) and
lmms-lab/ChartQA (question, answer; test only), and the original folders: SPLIT/SPLIT_human.json and
SPLIT_augmented.json, lists of {imgname, query, label}, beside SPLIT/png/IMGNAME.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanoocr.data.rows import BadRowError, Row, checked_row
from nanoocr.data.task import ParquetTask, Task
from nanoocr.files import read_json_list
from nanoocr.tasks.common import answered, existing, file_bytes, question_row

REPO = "HuggingFaceM4/ChartQA"
COLUMNS = (("image", "query", "label"), ("image", "question", "answer"))


class ChartQA(ParquetTask):
    """One of the hub's copies, with either set of columns."""

    def read(self, index: int) -> Row:
        """One question about one chart."""
        record, name = self.shards[index], self.shards.name_of(index)
        label = record["label"] if "label" in record else record["answer"]
        answer = label[0] if isinstance(label, list) and label else label
        question = record["query"] if "query" in record else record["question"]
        return question_row(name, record["image"], question, answer, "chartqa")


class ChartQAFolder(Task):
    """The original layout. `root` holds a folder for each split."""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        start: int = 0,
        stop: int | None = None,
        step: int = 1,
    ) -> None:
        super().__init__(start, stop, step)
        self.folder = existing(root, "folder") / split
        files = [self.folder / f"{split}_{writer}.json" for writer in ("human", "augmented")]
        self.entries = [entry for file in files for entry in _entries(file)]

    def num_rows(self) -> int:
        """How many questions there are. Those written by people come first."""
        return len(self.entries)

    def read(self, index: int) -> Row:
        """One question about one chart."""
        name, entry = self.entries[index]
        try:
            path, turn = self.folder / "png" / entry["imgname"], (entry["query"], entry["label"])
        except (KeyError, TypeError) as error:
            raise BadRowError(f"{name}: needs imgname, query and label ({error!r})") from error
        return answered(checked_row(name, [file_bytes(path, name)], [turn], "chartqa"))


def _entries(file: Path) -> list[tuple[str, Any]]:
    """(name, entry) of a JSON list."""
    entries = read_json_list(file, "questions", "name ChartQA's folder")
    return [(f"{file}: row {i}", entry) for i, entry in enumerate(entries)]
