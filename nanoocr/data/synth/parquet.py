"""Synthetic samples as Parquet in FineVision's schema, streamed, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.make import check_request, make_sample
from nanoocr.data.synth.sample import TEXT, text_row, to_row
from nanoocr.errors import UsageError

ROW_GROUP = 256  # rows held in memory at a time

_BOX = pa.struct([("text", pa.string()), *((side, pa.float32()) for side in ("x0", "y0", "x1", "y1"))])
# The first three columns are FineVision's; its loaders ignore the others.
SCHEMA = pa.schema(
    [
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("texts", pa.list_(pa.struct([("user", pa.string()), ("assistant", pa.string())]))),
        ("source", pa.string()),
        ("font", pa.string()),
        ("guessable", pa.bool_()),
        ("char_boxes", pa.list_(_BOX)),
    ]
)


def write_parquet(
    path: str | os.PathLike[str],
    kinds: str | Sequence[str],
    count: int,
    seed: int,
    *,
    fonts: Sequence[Font],
    max_lines: int = 3,
    min_lines: int = 1,
) -> None:
    """Writes `count` rows, taking turns among `kinds` ("text" is one here), in row groups of 256.

    Row i is `make_sample(kind, seed, i // len(kinds))`, or of "text" `text_row(seed, i // len(kinds))`. The
    file is written aside and renamed, so that it is there whole or not at all; an existing one is replaced.
    Raises UsageError for an impossible request and for a path that cannot be written.
    """
    turns = [kinds] if isinstance(kinds, str) else list(kinds)
    if count <= 0 or not turns:
        raise UsageError(f"count is {count}, of {len(turns)} kinds; use at least 1.")
    for kind in turns:
        if kind != TEXT:
            check_request(kind, seed, fonts, min_lines, max_lines)

    def row(i: int) -> dict[str, Any]:
        """Row i of the file; the kinds take turns."""
        kind, index = turns[i % len(turns)], i // len(turns)
        if kind == TEXT:
            return text_row(seed, index)
        return to_row(make_sample(kind, seed, index, fonts=fonts, max_lines=max_lines, min_lines=min_lines))

    rows = map(row, range(count))
    target = Path(path)
    if not target.name or target.is_dir():
        raise UsageError(f"--out={path} names no file; give it a name that ends in .parquet.")
    aside = target.with_name(f"{target.name}.part-{os.getpid()}")
    try:
        _write_groups(aside, rows)
        os.replace(aside, target)
    except OSError as error:
        raise UsageError(
            f"Cannot write {target} ({error.strerror or error}); choose another --out."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _write_groups(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("wb") as file:
        with pq.ParquetWriter(file, SCHEMA) as writer:
            for group in _groups(rows):
                writer.write_table(pa.Table.from_pylist(group, SCHEMA), row_group_size=ROW_GROUP)
        file.flush()
        os.fsync(file.fileno())


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == ROW_GROUP:
            yield group
            group = []
    if group:
        yield group
