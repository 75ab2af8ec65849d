"""The output of a batch: Parquet files of one row per page, each page in exactly one of them.

A shard is written whole, flushed to disk and renamed into place; then one transaction of the ledger says that
it counts and drops the records that it holds. Killed before the renaming, a run leaves nothing. Killed
between the two, it leaves a shard that the ledger does not know, whose records still lie in the ledger: the
next run removes it and writes them anew. In between a reader of the folder sees each page once all the same.
Pages that failed are in `failed.parquet`, which is removed when a run begins and written when it ends.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from nanoocr.batch.ledger import Ledger
from nanoocr.errors import OutputError
from nanoocr.files import drop_unfinished, write_file

FAILED = "failed.parquet"
SHARD = re.compile(r"pages-\d{6,}\.parquet")
ROWS = 1000  # rows of a shard are a few megabytes, so that a killed run writes little twice

_PLACED = [
    pa.field("text", pa.string()),
    pa.field("quad", pa.list_(pa.list_(pa.float64()))),
    pa.field("confidence", pa.float64()),
]
# Given in full, because a guess from the rows differs from shard to shard, and then no reader joins them.
SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("page", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("text", pa.string()),
        pa.field("lines", pa.list_(pa.struct([*_PLACED, pa.field("words", pa.list_(pa.struct(_PLACED)))]))),
        pa.field("confidence", pa.float64()),
        pa.field("status", pa.string()),
        pa.field("error", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("model", pa.string()),
        pa.field("version", pa.string()),
    ]
)


def begin(folder: Path, ledger: Ledger) -> None:
    """Remove what a killed run has left half done."""
    drop_unfinished(folder)
    known = {shard_name(number) for number in ledger.shards()}
    for path in shards_in(folder):
        if path.name not in known:
            path.unlink()
    (folder / FAILED).unlink(missing_ok=True)


def shards_in(folder: Path) -> list[Path]:
    """The files of a folder that are called like shards, by name."""
    return sorted(path for path in folder.glob("pages-*.parquet") if SHARD.fullmatch(path.name))


def flush(folder: Path, ledger: Ledger, rows: int = ROWS, at_least: int = ROWS) -> int:
    """Move records from the ledger into shards of `rows`, while `at_least` so many wait; gives the shards.

    Raises:
        OutputError: a shard cannot be written.
    """
    written = 0
    while ledger.ready_count() >= max(at_least, 1):
        waiting = ledger.ready(rows)
        number = max(ledger.shards(), default=0) + 1
        _write(folder / shard_name(number), _table([(sha256, record) for _, _, sha256, record in waiting]))
        ledger.sharded(number, [(document, page) for document, page, _, _ in waiting])
        written += 1
    return written


def finish(folder: Path, ledger: Ledger) -> None:
    """Write the last shard and, where something failed, the file that says what and why."""
    flush(folder, ledger, at_least=1)
    failures = list(_failures(ledger))
    if failures:
        _write(folder / FAILED, pa.Table.from_pylist(failures, schema=SCHEMA))


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"pages-{number:06d}.parquet"


def _table(records: Sequence[tuple[str, str]]) -> pa.Table:
    """(sha256, record as JSON) of each page as rows of the schema; what it does not name is left out."""
    lines = "\n".join(record for _, record in records).encode()
    # Arrow's own parser: Python's would take ten milliseconds for a page with a few hundred words. A block
    # holds whole records, and one block is all of them.
    table = pj.read_json(
        io.BytesIO(lines),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=pj.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore"),
    )
    place = table.schema.get_field_index("sha256")
    hashes = pa.array([sha256 for sha256, _ in records], pa.string())
    return table.set_column(place, "sha256", hashes).select(SCHEMA.names)


def _failures(ledger: Ledger) -> Iterator[dict[str, str | int]]:
    for name, page, sha256, error in ledger.failures():
        yield {"file": name, "page": page, "sha256": sha256, "text": "", "status": "error", "error": error}


def _write(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    try:
        write_file(path, sink.getvalue().to_pybytes())
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}): make room and go on with --resume"
        ) from error
