"""DocVQA and its sister InfographicVQA: questions about scanned pages (lmms-lab/DocVQA, a config for each).

Of several right answers the first is learnt. The test split has no answers, so its rows cannot be used.
"""

from __future__ import annotations

from nanoocr.data.rows import BadRowError, Row
from nanoocr.data.task import ParquetTask
from nanoocr.tasks.common import question_row, texts_of

REPO = "lmms-lab/DocVQA"
COLUMNS = ("image", "question", "answers")


class DocVQA(ParquetTask):
    """Columns image, question, answers."""

    def read(self, index: int) -> Row:
        """One question about one page."""
        record, name = self.shards[index], self.shards.name_of(index)
        answers = texts_of(record["answers"], name, "answers")
        if not answers:
            raise BadRowError(f"{name}: has no answer")
        return question_row(name, record["image"], record["question"], answers[0], "docvqa")
