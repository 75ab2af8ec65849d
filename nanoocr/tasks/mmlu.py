"""MMLU: multiple-choice questions (cais/mmlu, config all; people train on its split auxiliary_train).

The letter follows its choice, as in nanochat, because a small model links a letter to what it has just read
more easily than to what comes next. The answer is the letter alone.
"""

from __future__ import annotations

from nanoocr.data.rows import BadRowError, Row, checked_row
from nanoocr.data.task import ParquetTask
from nanoocr.tasks.common import texts_of

REPO, CONFIG, SPLIT = "cais/mmlu", "all", "auxiliary_train"
COLUMNS = ("question", "subject", "choices", "answer")
LETTERS = "ABCD"


class MMLU(ParquetTask):
    """Columns question, subject, choices (four), answer (0 to 3)."""

    def read(self, index: int) -> Row:
        """One question with its choices."""
        record, name = self.shards[index], self.shards.name_of(index)
        choices, answer = texts_of(record["choices"], name, "choices"), record["answer"]
        if len(choices) != len(LETTERS):
            raise BadRowError(f"{name}: has {len(choices)} choices and not {len(LETTERS)}")
        if answer not in range(len(LETTERS)):
            raise BadRowError(f"{name}: the answer is {answer!r} and not 0 to 3")
        if not isinstance(record["question"], str) or not record["question"]:
            raise BadRowError(f"{name}: has no question")
        listed = "\n".join(f"- {choice}={letter}" for letter, choice in zip(LETTERS, choices))
        prompt = f"{record['question']}\n{listed}\n\nAnswer with the right letter alone."
        return checked_row(name, (), [(prompt, LETTERS[answer])], f"mmlu/{record['subject'] or 'unknown'}")
