"""SmolTalk: conversations in text (HuggingFaceTB/smol-smoltalk; a config of smoltalk by its name).

A system message joins the first question, as nanochat does it.
"""

from __future__ import annotations

from nanoocr.data.rows import BadRowError, Row, checked_row
from nanoocr.data.task import ParquetTask
from nanoocr.tasks.chat import decoded
from nanoocr.tasks.common import answered, turns_of
from nanoocr.tasks.unread import refuse_unlearnt

SMALL, LARGE = "HuggingFaceTB/smol-smoltalk", "HuggingFaceTB/smoltalk"
COLUMNS = ("messages",)


class SmolTalk(ParquetTask):
    """Column messages: a list of {role, content}."""

    def read(self, index: int) -> Row:
        """One conversation."""
        messages, name = decoded(self.shards[index]["messages"]), self.shards.name_of(index)
        if not messages or None in messages:
            raise BadRowError(f"{name}: holds no messages, or a null among them")
        turns = turns_of([(message["role"], message["content"]) for message in messages], name)
        for message in messages:
            if message["role"] == "assistant":
                refuse_unlearnt(message, name)
        return answered(checked_row(name, (), turns, "smoltalk"))
