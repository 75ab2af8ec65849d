"""A page's record between the worker that makes it and the ledger that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Record(NamedTuple):
    """A page's record on its way: what the ledger looks at, and the whole as JSON, which it only passes on.

    The worker encodes it, so that the driver, of which there is one, neither decodes nor encodes words.
    """

    status: str
    error: str | None
    text: str


def packed(record: Mapping[str, Any]) -> Record:
    """A record as it is sent and kept."""
    return Record(record["status"], record.get("error"), json.dumps(record))
