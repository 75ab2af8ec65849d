"""What a batch has done: documents and pages in one SQLite file, so that a run can die at any moment.

A page's record lies in `results` until a shard of the output holds it. Only the driver writes here, and what
belongs together is written in one transaction; `shards.py` says why each page comes out exactly once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nanoocr.batch.record import Record
from nanoocr.errors import OutputError, UsageError

LEDGER = "ledger.sqlite"
VERSION = 2
# A page that takes its worker down so often may be the reason: it waits until all others are done.
DOUBTED = 2

# A document goes pending -> open (its pages are known) -> read (all have a record) -> done, or it fails as a
# whole, or it is the same as another. A page goes pending -> done or failed.
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, place TEXT UNIQUE, name TEXT, stem TEXT, status TEXT DEFAULT 'pending',
    sha256 TEXT, stamp TEXT DEFAULT '', pages INTEGER, left INTEGER, error TEXT,
    deaths INTEGER DEFAULT 0, same_as INTEGER);
CREATE INDEX by_status ON documents (status, id);
CREATE INDEX by_content ON documents (sha256);
CREATE TABLE pages (
    document INTEGER, page INTEGER, status TEXT DEFAULT 'pending', deaths INTEGER DEFAULT 0, shard INTEGER,
    PRIMARY KEY (document, page)) WITHOUT ROWID;
CREATE INDEX by_page_status ON pages (status, document, page);
CREATE TABLE results (
    document INTEGER, page INTEGER, record TEXT, ready INTEGER DEFAULT 0, PRIMARY KEY (document, page));
CREATE INDEX by_ready ON results (ready, document, page);
CREATE TABLE shards (number INTEGER PRIMARY KEY, rows INTEGER);
"""


COLUMNS = "id, place, name, stem, ifnull(sha256, ''), ifnull(pages, 0), stamp"  # of Document


class Found(NamedTuple):
    """A document as it is listed: how to get at it, what messages call it, where its files go."""

    place: str
    name: str
    stem: str
    error: str | None = None


class Document(NamedTuple):
    """A document of the ledger; `sha256` is empty until somebody has looked into it.

    `stamp` is of a file of this machine; see `streams.stamp_of`.
    """

    id: int
    place: str
    name: str
    stem: str
    sha256: str
    pages: int
    stamp: str = ""


class Counts(NamedTuple):
    """How far a batch is. Documents that are the same as another count in `same` alone."""

    documents: int
    same: int
    unread: int  # documents whose pages nobody has counted yet
    pages: int
    done: int
    failed: int  # pages, and documents that failed as a whole


class Ledger:
    """The open ledger of a batch. For one process and one thread."""

    def __init__(self, folder: Path) -> None:
        """Open the ledger in `folder`, or begin one.

        Raises:
            OutputError: it cannot be written.
            UsageError: the file is no ledger, or of another version.
        """
        self.path = folder / LEDGER
        with self._explained():
            self.db = sqlite3.connect(self.path, isolation_level=None)
            # A transaction may be lost when the power goes, but never half of one, and no shard needs it.
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=NORMAL")
            if not self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self.db.executescript(f"BEGIN; {TABLES} PRAGMA user_version={VERSION}; COMMIT;")
            found = self.db.execute("PRAGMA user_version").fetchone()[0]
        if found != VERSION:
            raise UsageError(
                f"{self.path} is of version {found}, and this program knows version {VERSION}: "
                "name another --out, or finish with the program that began it"
            )

    def close(self) -> None:
        """Fold the log back into the file."""
        self.db.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all that is written within, or nothing.

        Raises:
            OutputError: the disk is full, or the ledger cannot be written.
        """
        with self._explained():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            mend = "make room and go on with --resume" if "full" in str(error) else "see who may write there"
            raise OutputError(f"{self.path} cannot be written ({error}): {mend}") from error
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"{self.path} is no ledger or is damaged ({error}): name another --out"
            ) from error

    # ---------------------------------------------------------------------------------------------------
    # Options and documents

    def is_empty(self) -> bool:
        """Whether no document is noted: a run that was refused before it began leaves such a ledger."""
        return self.db.execute("SELECT 1 FROM documents LIMIT 1").fetchone() is None

    def agree(self, options: Mapping[str, Any], hints: Mapping[str, Any] | None = None) -> None:
        """Keep the options on which texts depend, or compare them with those kept; `hints` may change.

        Raises:
            UsageError: the ledger is of a run with other options.
        """
        with self.changing() as db:
            if self.is_empty():
                db.execute("DELETE FROM meta WHERE key = 'options'")
            db.execute("INSERT OR IGNORE INTO meta VALUES ('options', ?)", (json.dumps(options),))
            if hints is not None:
                db.execute("INSERT OR REPLACE INTO meta VALUES ('hints', ?)", (json.dumps(hints),))
            kept = self._meta("options")
        for key in sorted(kept.keys() | options.keys()):
            then, now = kept.get(key), json.loads(json.dumps(options.get(key)))
            if then != now:
                raise UsageError(
                    f"{self.path} is of a run with {key}={_shown(then)}, not {_shown(now)}: "
                    "go on with the same, or name another --out"
                )

    def options(self) -> dict[str, Any]:
        """What `agree` has kept, hints and all; empty where nothing is."""
        return {**self._meta("options"), **self._meta("hints")}

    def settle(self, options: Mapping[str, Any]) -> None:
        """Say more exactly what some of the options that `agree` has kept were all along."""
        with self.changing() as db:
            settled = json.dumps({**self._meta("options"), **options})
            db.execute("UPDATE meta SET value = ? WHERE key = 'options'", (settled,))

    def _meta(self, key: str) -> dict[str, Any]:
        kept = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(kept[0]) if kept else {}

    def add(self, found: Iterable[Found]) -> None:
        """Note documents; one that is already noted stays as it is."""
        rows = ((f.place, f.name, f.stem, "failed" if f.error else "pending", f.error) for f in found)
        with self.changing() as db:
            db.executemany(
                "INSERT OR IGNORE INTO documents (place, name, stem, status, error) VALUES (?, ?, ?, ?, ?)",
                rows,
            )

    def listed(self, place: str, error: str | None) -> None:
        """A container that could not be listed was tried again: it is forgotten, or its error is kept."""
        with self.changing() as db:
            db.execute("UPDATE documents SET error = ? WHERE place = ?", (error, place))
            db.execute("DELETE FROM documents WHERE place = ? AND error IS NULL", (place,))

    def known(self) -> dict[str, str]:
        """The stem of every document by its place."""
        return dict(self.db.execute("SELECT place, stem FROM documents"))

    def documents(self, status: str, after: int, limit: int, doubted: bool = False) -> list[Document]:
        """Up to `limit` documents of this status with an id above `after`, in the order of their ids."""
        sign = ">=" if doubted else "<"
        rows = self.db.execute(
            f"SELECT {COLUMNS} FROM documents "
            f"WHERE status = ? AND id > ? AND deaths {sign} ? ORDER BY id LIMIT ?",
            (status, after, DOUBTED, limit),
        )
        return [Document(*row) for row in rows]

    def document(self, number: int) -> Document:
        """One document by its id."""
        rows = self.db.execute(f"SELECT {COLUMNS} FROM documents WHERE id = ?", (number,))
        return Document(*rows.fetchone())

    def opened(self, db: sqlite3.Connection, number: int, sha256: str, pages: int, stamp: str = "") -> bool:
        """Note what is in a document. False where another has the same content, and nothing is to do."""
        twin = db.execute(
            "SELECT id FROM documents WHERE sha256 = ? AND id != ? AND status != 'same'", (sha256, number)
        ).fetchone()
        if twin:
            db.execute(
                "UPDATE documents SET status = 'same', sha256 = ?, same_as = ? WHERE id = ?",
                (sha256, twin[0], number),
            )
            return False
        db.execute(
            "UPDATE documents SET status = 'open', sha256 = ?, pages = ?, left = ?, stamp = ? WHERE id = ?",
            (sha256, pages, pages, stamp, number),
        )
        db.executemany(
            "INSERT OR IGNORE INTO pages (document, page) VALUES (?, ?)",
            ((number, page) for page in range(1, pages + 1)),
        )
        return True

    def failed(self, db: sqlite3.Connection, number: int, sha256: str | None, error: str) -> None:
        """Note that a document cannot be read at all."""
        db.execute(
            "UPDATE documents SET status = 'failed', sha256 = ?, error = ? WHERE id = ?",
            (sha256, error, number),
        )

    # ---------------------------------------------------------------------------------------------------
    # Pages

    def waiting(self, after: tuple[int, int], limit: int, doubted: bool = False) -> list[tuple[int, int]]:
        """Up to `limit` pages behind `after` that nobody has read, as (document, page)."""
        sign = ">=" if doubted else "<"
        return self.db.execute(
            f"SELECT document, page FROM pages WHERE status = 'pending' AND (document, page) > (?, ?) "
            f"AND deaths {sign} ? ORDER BY document, page LIMIT ?",
            (*after, DOUBTED, limit),
        ).fetchall()

    def read(self, db: sqlite3.Connection, number: int, page: int, record: Record) -> bool:
        """Keep the record of a page; True where it was the last of its document. A second one is dropped."""
        # A page that a shard holds is read again for the sake of the files beside alone, and stays as it is.
        changed = db.execute(
            "UPDATE pages SET status = CASE WHEN ? AND shard IS NULL THEN 'failed' ELSE 'done' END "
            "WHERE document = ? AND page = ? AND status = 'pending'",
            (record.status == "error", number, page),
        )
        if not changed.rowcount:
            return False
        db.execute(
            "INSERT OR REPLACE INTO results (document, page, record) VALUES (?, ?, ?)",
            (number, page, record.text),
        )
        db.execute("UPDATE documents SET left = left - 1 WHERE id = ?", (number,))
        is_last = db.execute("UPDATE documents SET status = 'read' WHERE id = ? AND left = 0", (number,))
        return is_last.rowcount == 1

    def finished(self, db: sqlite3.Connection, number: int) -> None:
        """A document's files are written: its good pages may go into a shard, its bad ones stay here."""
        db.execute("UPDATE documents SET status = 'done' WHERE id = ?", (number,))
        for ready, where in ((1, "shard IS NULL"), (2, "shard IS NOT NULL")):
            db.execute(
                f"UPDATE results SET ready = {ready} WHERE document = ? AND ready = 0 AND page IN "
                f"(SELECT page FROM pages WHERE document = ? AND status = 'done' AND {where})",
                (number, number),
            )
        self._drop(db, number)

    def died(self, db: sqlite3.Connection, number: int, page: int) -> int:
        """Count a death of the worker that had this page (0: the document itself); gives the count."""
        table, where = ("pages", "document = ? AND page = ?") if page else ("documents", "id = ?")
        key = (number, page) if page else (number,)
        db.execute(f"UPDATE {table} SET deaths = deaths + 1 WHERE {where}", key)
        return db.execute(f"SELECT deaths FROM {table} WHERE {where}", key).fetchone()[0]

    def ready_count(self) -> int:
        """How many records wait for a shard."""
        return self.db.execute("SELECT count(*) FROM results WHERE ready = 1").fetchone()[0]

    def ready(self, limit: int) -> list[tuple[int, int, str, str]]:
        """Up to `limit` rows for a shard, as (document, page, sha256, record)."""
        return self.db.execute(
            "SELECT results.document, page, sha256, record FROM results JOIN documents ON id = document "
            "WHERE ready = 1 ORDER BY results.document, page LIMIT ?",
            (limit,),
        ).fetchall()

    def sharded(self, number: int, rows: Sequence[tuple[int, int]]) -> None:
        """Shard `number` is in its place and holds these pages: their records are no longer needed."""
        with self.changing() as db:
            db.execute("INSERT INTO shards VALUES (?, ?)", (number, len(rows)))
            db.executemany(
                "UPDATE pages SET shard = ? WHERE document = ? AND page = ?", ((number, *row) for row in rows)
            )
            db.executemany("UPDATE results SET ready = 2 WHERE document = ? AND page = ?", rows)
            for document in dict(rows):
                self._drop(db, document)

    def _drop(self, db: sqlite3.Connection, number: int) -> None:
        """Drop records that a shard holds, unless a page of the document is or may still be tried again.

        The files beside are written for whole documents, so a later try needs the good pages as well.
        """
        db.execute(
            "DELETE FROM results WHERE document = ? AND ready = 2 AND NOT EXISTS "
            "(SELECT 1 FROM pages WHERE document = ? AND status IN ('failed', 'pending')) AND "
            "(SELECT status FROM documents WHERE id = ?) = 'done'",
            (number, number, number),
        )

    def shards(self) -> set[int]:
        """The numbers of the shards that count."""
        return {row[0] for row in self.db.execute("SELECT number FROM shards")}

    # ---------------------------------------------------------------------------------------------------
    # Failures and sums

    def failures(self) -> Iterator[tuple[str, int, str, str]]:
        """What failed, as (name, page, sha256, sentence); page 0 is a document as a whole."""
        yield from self.db.execute(
            "SELECT name, 0, ifnull(sha256, ''), error FROM documents WHERE status = 'failed' ORDER BY id"
        )
        yield from self.db.execute(
            "SELECT name, pages.page, sha256, json_extract(record, '$.error') FROM pages "
            "JOIN documents ON id = pages.document "
            "JOIN results ON results.document = pages.document AND results.page = pages.page "
            "WHERE pages.status = 'failed' ORDER BY pages.document, pages.page"
        )

    def counts(self) -> Counts:
        """How far it is."""
        of = dict(self.db.execute("SELECT status, count(*) FROM documents GROUP BY status").fetchall())
        pages = dict(self.db.execute("SELECT status, count(*) FROM pages GROUP BY status").fetchall())
        return Counts(
            documents=sum(of.values()),
            same=of.get("same", 0),
            unread=of.get("pending", 0),
            pages=sum(pages.values()),
            done=pages.get("done", 0),
            failed=pages.get("failed", 0) + of.get("failed", 0),
        )

    def twins(self) -> Iterator[tuple[str, str, int]]:
        """(stem of the document that was read, stem of the one with the same content, pages of both)."""
        yield from self.db.execute(
            "SELECT first.stem, same.stem, ifnull(first.pages, 0) FROM documents AS same "
            "JOIN documents AS first ON first.id = same.same_as WHERE same.status = 'same' ORDER BY same.id"
        )


def _shown(value: Any) -> str:
    return "(nothing)" if value in (None, "") else str(value)


def records_of(path: Path, number: int) -> list[dict[str, Any]]:
    """The records of a document's pages, in order; for workers, which only look into the ledger."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as db:
        rows = db.execute("SELECT record FROM results WHERE document = ? ORDER BY page", (number,)).fetchall()
    return [json.loads(row[0]) for row in rows]
