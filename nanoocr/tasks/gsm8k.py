"""GSM8K: school mathematics in words (openai/gsm8k, configs main and socratic).

The solutions contain calculator marks, "48/2 = <<48/2=24>>24". They are removed: this model has no calculator
to call, and the number after a mark repeats its result. The last line, "#### 72", stays.
"""

from __future__ import annotations

import re

from nanoocr.data.rows import BadRowError, Row, checked_row
from nanoocr.data.task import ParquetTask
from nanoocr.tasks.common import answered

REPO, CONFIG = "openai/gsm8k", "main"
COLUMNS = ("question", "answer")
MARK = re.compile(r"<<[^<>]*>>")


class GSM8K(ParquetTask):
    """Columns question, answer."""

    def read(self, index: int) -> Row:
        """One problem and its solution."""
        record, name = self.shards[index], self.shards.name_of(index)
        if not isinstance(record["answer"], str):
            raise BadRowError(f"{name}: has no answer")
        turn = (record["question"], MARK.sub("", record["answer"]))
        return answered(checked_row(name, (), [turn], "gsm8k"))
