"""TextVQA: questions about text in photographs (lmms-lab/textvqa). Ten people answered each question.

The most frequent answer is learnt; among equally frequent ones it is the one that came first. Answers of
people who found that the question needs no reading do not count.
"""

from __future__ import annotations

from collections import Counter

from nanoocr.data.rows import BadRowError, Row
from nanoocr.data.task import ParquetTask
from nanoocr.tasks.common import question_row, texts_of

REPO = "lmms-lab/textvqa"
COLUMNS = ("image", "question", "answers")
NO_READING = "answering does not require reading text in the image"  # the data set's own phrase


class TextVQA(ParquetTask):
    """Columns image, question, answers."""

    def read(self, index: int) -> Row:
        """One question about one photograph."""
        record, name = self.shards[index], self.shards.name_of(index)
        given = [answer.strip() for answer in texts_of(record["answers"], name, "answers")]
        votes = Counter(answer for answer in given if answer and answer.lower() != NO_READING)
        if not votes:
            raise BadRowError(f"{name}: has no answer")
        return question_row(name, record["image"], record["question"], votes.most_common(1)[0][0], "textvqa")
