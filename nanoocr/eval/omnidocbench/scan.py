"""Finds delimited spans in linear time.

The official extraction uses lazy regular expressions, such as `\\[(.*?)\\]`. They take quadratic time when an
opener is repeated and never closed, which is just what a looping model writes. These searches give the same
spans, because an opener without a later closer can be skipped, and so can all later ones up to the same
limit.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """`text[start:end]` includes the delimiters, `text[inner_start:inner_end]` does not."""

    start: int
    inner_start: int
    inner_end: int
    end: int
    opener: str


def delimited(text: str, pairs: Sequence[tuple[str, str]], *, one_line: bool = False) -> Iterator[Span]:
    """Spans between literal (opener, closer) pairs, left to right, without overlap.

    Where several openers fit at one place, the first in `pairs` that is closed counts. With `one_line`, no
    newline may lie between opener and closer.
    """
    openers = re.compile("|".join(re.escape(opener) for opener, _ in pairs))
    barren = {closer: 0 for _, closer in pairs}  # no such closer follows before this position
    place = 0
    while found := openers.search(text, place):
        place = found.start() + 1
        limit = _line_end(text, found.start()) if one_line else len(text)
        for opener, closer in pairs:
            if not text.startswith(opener, found.start()) or found.start() < barren[closer]:
                continue
            inner = found.start() + len(opener)
            close = text.find(closer, inner, limit)
            if close < 0:
                barren[closer] = limit
                continue
            place = close + len(closer)
            yield Span(found.start(), inner, close, place, opener)
            break


def replace_enclosed(
    text: str, opener: re.Pattern[str], closer: str, make: Callable[[str], str], *, one_line: bool = False
) -> str:
    """Replace every `opener ... closer`, delimiters included, by `make` of the text between them."""
    parts, kept, place = [], 0, 0
    while found := opener.search(text, place):
        limit = _line_end(text, found.end()) if one_line else len(text)
        close = text.find(closer, found.end(), limit)
        if close < 0:
            place = max(limit, found.end())
            if place >= len(text):
                break
            continue
        parts += [text[kept : found.start()], make(text[found.end() : close])]
        kept = place = close + len(closer)
    return "".join([*parts, text[kept:]])


def outermost(
    text: str, find_opener: Callable[[str, int], int], closer: str, *, stride: int, jump: int
) -> list[tuple[int, int]]:
    """(start, end) of elements that may be nested; only the outermost are returned.

    After every tag the search moves on by `stride`, and elements end that far after their closer's start. An
    opener that is never closed is skipped, and the search resumes `jump` characters after it. The official
    code uses these two numbers as the lengths of tags, so whatever lies within such a stretch is lost.
    """
    tags = list(_tags(text, find_opener, closer, stride))
    starts = [start for start, _ in tags]
    last_closer = max((start for start, opens in tags if not opens), default=-1)
    spans: list[tuple[int, int]] = []
    first = 0
    while True:
        pending: list[int] = []
        for start, opens in tags[first:]:
            if opens:
                pending.append(start)
            elif pending:
                opened = pending.pop()
                if not pending:
                    spans.append((opened, min(start + stride, len(text))))
        if not pending or pending[0] + jump > last_closer:
            return spans
        first = bisect_left(starts, pending[0] + jump)


def _tags(
    text: str, find_opener: Callable[[str, int], int], closer: str, stride: int
) -> Iterator[tuple[int, bool]]:
    """(start, is an opener) of all openers and closers in order."""
    opened, closed = find_opener(text, 0), text.find(closer)
    while opened >= 0 or closed >= 0:
        opens = opened >= 0 and (closed < 0 or opened < closed)
        start = opened if opens else closed
        yield start, opens
        if 0 <= opened < start + stride:
            opened = find_opener(text, start + stride)
        if 0 <= closed < start + stride:
            closed = text.find(closer, start + stride)


def blank(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Replace every span (in order of their starts) by blanks, so that positions stay the same."""
    parts, place = [], 0
    for start, end in spans:
        parts += [text[place:start], " " * (end - max(start, place))]
        place = max(place, end)
    return "".join([*parts, text[place:]])


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end
