"""Parquet files on disk, in FineVision's schema or with chat rows; their columns tell which.

FineVision's rows have `images` and `texts`. Chat rows have `messages` or `conversations`, and pictures in
`images` or `image`, in all forms that nanoocr/tasks/chat.py knows.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from nanoocr.data.rows import Row, row_from_record
from nanoocr.data.shards import local_shards
from nanoocr.data.task import ParquetTask
from nanoocr.errors import UsageError
from nanoocr.tasks.chat import FORMS, decoded
from nanoocr.tasks.jsonl import chat_row
from nanoocr.tasks.unread import refuse_unlearnt, refuse_unread


class ChatParquet(ParquetTask):
    """Chat rows in Parquet files."""

    source = "parquet"

    def read(self, index: int) -> Row:
        """One row, its pictures still encoded."""
        name, folder = self.shards.name_of(index), self.shards.folder_of(index)
        return chat_row(self.shards[index], name, folder, self.source)


class TextsParquet(ParquetTask):
    """Rows in FineVision's schema. Files of one's own may say more than its columns do."""

    def read(self, index: int) -> Row:
        """One row, its pictures still encoded."""
        record, name = self.shards[index], self.shards.name_of(index)
        refuse_unread(record, name)
        turns = decoded(record["texts"])
        for turn in turns if isinstance(turns, list) else []:
            refuse_unlearnt(turn or {}, name)
        return row_from_record(record, name, self.shards.folder_of(index))


def parquet_task(path: str | Path, start: int = 0, stop: int | None = None, step: int = 1) -> ParquetTask:
    """Open a file, or the files of a folder.

    Raises:
        UsageError: nothing is there, a file is no Parquet, or the columns are of neither kind.
    """
    shards = local_shards([path])
    names = pq.read_schema(shards.path_of(shards.shards[0].name)).names
    if any(form in names for form in FORMS) and "texts" not in names:
        return ChatParquet(shards, start, stop, step)
    if missing := [name for name in ("images", "texts") if name not in names]:
        raise UsageError(
            f"{shards.shards[0].name}: has no column {missing[0]}: rows have images and texts, or messages; "
            f"here are {', '.join(names)}"
        )
    return TextsParquet(shards, start, stop, step)
