"""Rows that are in order but not wanted."""

from __future__ import annotations

from nanoocr.data.rows import BadRowError


class FilteredRowError(BadRowError):
    """A row that a filter of the user leaves out: skipped and counted, whatever is done about bad rows."""
