"""What a resumed run reads again: what failed, if that is asked for, and what is gone from the output.

Somebody may have deleted a shard or a file beside since the last run. Its pages become pending again, and a
page that another shard still holds keeps the number of that shard, by which `Ledger.finished` knows that no
shard needs it. So each page is in the shards once, and each document has its files.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from nanoocr.batch.ledger import DOUBTED, Found, Ledger
from nanoocr.batch.shards import shard_name
from nanoocr.batch.sources import is_listed
from nanoocr.formats import FORMATS

END_OF_PARQUET = b"PAR1"
# Of the documents in the table `again`: pages whose record the ledger no longer has.
UNRECORDED = (
    "status = 'done' AND NOT EXISTS "
    "(SELECT 1 FROM results WHERE results.document = pages.document AND results.page = pages.page)"
)


def forget_failures(ledger: Ledger) -> list[Found]:
    """Make whatever failed pending again, for --retry_failed.

    What failed when it was listed stays as it is, since a worker would take it for a picture. Of it, the
    containers are returned, to be listed again.
    """
    with ledger.changing() as db:
        failed = db.execute("SELECT place, name, stem, error FROM documents WHERE status = 'failed'")
        listed = [Found(*row) for row in failed if is_listed(row[0])]
        # Where no page is good the file may have been mended since: somebody has to look into it again.
        bad = (
            "SELECT document FROM pages GROUP BY document "
            "HAVING sum(status = 'failed') > 0 AND sum(status = 'done') = 0"
        )
        db.execute(f"UPDATE documents SET status = 'failed' WHERE id IN ({bad})")
        for table in ("results", "pages"):
            db.execute(
                f"DELETE FROM {table} WHERE document IN (SELECT id FROM documents WHERE status = 'failed')"
            )
        db.execute(
            "UPDATE documents SET left = (SELECT count(*) FROM pages WHERE document = documents.id AND "
            "status = 'failed'), status = 'open', deaths = 0 "
            "WHERE id IN (SELECT DISTINCT document FROM pages WHERE status = 'failed')"
        )
        db.execute(
            "DELETE FROM results WHERE (document, page) IN "
            "(SELECT document, page FROM pages WHERE status = 'failed')"
        )
        db.execute("UPDATE pages SET status = 'pending', deaths = 0 WHERE status = 'failed'")
        db.execute(
            "UPDATE documents SET status = 'pending', error = NULL, sha256 = NULL, deaths = 0 "
            "WHERE status = 'failed'"
        )
        db.executemany(
            "UPDATE documents SET status = 'failed', error = ? WHERE place = ?",
            [(one.error, one.place) for one in listed],
        )
    return [one for one in listed if "link" not in json.loads(one.place)]


def restore(ledger: Ledger, folder: Path, files: Path, formats: Sequence[str]) -> list[str]:
    """Make pending what the ledger has as written and the output lacks; gives a sentence for each kind.

    `files` is the folder of the files beside, of which there are some if there are `formats`.
    """
    gone = [number for number in sorted(ledger.shards()) if not is_whole(folder / shard_name(number))]
    bare = list(without_files(ledger, files, formats)) if formats else []
    if not gone and not bare:
        return []
    with ledger.changing() as db:
        db.execute("CREATE TEMP TABLE again (document INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO again VALUES (?)", [(number,) for number, _ in bare])
        lost = sum(_forget_shard(db, number) for number in gone)
        if formats:  # the files of a document are written of all its pages
            db.execute(
                f"UPDATE pages SET status = 'pending', deaths = 0 WHERE document IN again AND {UNRECORDED}"
            )
        db.execute(
            "UPDATE documents SET deaths = 0, left = (SELECT count(*) FROM pages WHERE document = id AND "
            "pages.status = 'pending') WHERE id IN again"
        )
        # Where every record is still there, only the files are to be written; else pages are read first.
        db.execute(
            "UPDATE documents SET status = CASE left WHEN 0 THEN 'read' ELSE 'open' END "
            "WHERE id IN again AND status IN ('open', 'read', 'done')"
        )
        db.execute("DROP TABLE again")
    return list(_sentences(gone, lost, bare))


def is_whole(path: Path) -> bool:
    """Whether a Parquet file is there and not cut off."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(END_OF_PARQUET), 2)
            return file.read() == END_OF_PARQUET
    except OSError:
        return False


def _forget_shard(db: sqlite3.Connection, number: int) -> int:
    """Forget a shard that is gone, and note its documents in `again`; gives the number of its pages."""
    # A record that is still in the ledger, as of documents with failed pages, goes into the next shard.
    db.execute(
        "UPDATE results SET ready = 1 WHERE ready = 2 AND (document, page) IN "
        "(SELECT document, page FROM pages WHERE shard = ?)",
        (number,),
    )
    db.execute(
        f"INSERT OR IGNORE INTO again SELECT DISTINCT document FROM pages WHERE shard = ? AND {UNRECORDED}",
        (number,),
    )
    db.execute(f"UPDATE pages SET status = 'pending', deaths = 0 WHERE shard = ? AND {UNRECORDED}", (number,))
    lost = db.execute("UPDATE pages SET shard = NULL WHERE shard = ?", (number,)).rowcount
    db.execute("DELETE FROM shards WHERE number = ?", (number,))
    return lost


def without_files(ledger: Ledger, files: Path, formats: Sequence[str]) -> Iterator[tuple[int, Path]]:
    """The ids of documents that are done and lack one of their files, with the first such file."""
    rows = ledger.db.execute(
        "SELECT id, stem, pages FROM documents WHERE status = 'done' AND deaths <= ? AND EXISTS "
        "(SELECT 1 FROM pages WHERE document = id AND pages.status = 'done') ORDER BY id",
        (DOUBTED,),
    )
    for number, stem, pages in rows:
        if lacking := next(
            (path for path in names_of(files / stem, pages, formats) if not path.exists()), None
        ):
            yield number, lacking


def names_of(stem: Path, pages: int, formats: Sequence[str]) -> Iterator[Path]:
    """The files of a document of so many pages, as `formats.write_document` names them."""
    for chosen in (FORMATS[name] for name in formats):
        parts = [f"-{page:04d}" for page in range(1, pages + 1)] if chosen.per_page and pages > 1 else [""]
        yield from (stem.with_name(f"{stem.name}{part}{chosen.suffix}") for part in parts)


def _sentences(gone: Sequence[int], lost: int, bare: Sequence[tuple[int, Path]]) -> Iterator[str]:
    if gone:
        more = f", and so are {len(gone) - 1} more shards" if len(gone) > 1 else ""
        first = shard_name(gone[0])
        yield f"{first} is gone from the output or cut off{more}: {lost} pages are written again"
    if bare:
        more = f", and so are files of {len(bare) - 1} more documents" if len(bare) > 1 else ""
        yield f"{bare[0][1]} is gone from the output{more}: all pages of such a document are read again"
