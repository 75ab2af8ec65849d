"""The crash test: a driver and its workers are killed at random, again and again, and nothing may be lost.

Usage: python -m tests.batch.crash [--pages=2000] [--kills=100] [--seed=0] [--engine=ray] [--reader=model]
       [--longest=SECONDS]

Many small TIFFs of several pages are read by the fake reader, or by the packaged model. As a program of its
own it is also the driver that is killed: python -m tests.batch.crash run FOLDER OUT ENGINE READER.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from nanoocr import commandline
from nanoocr.batch.drive import Plan, drive
from nanoocr.batch.ledger import Found, Ledger
from nanoocr.batch.sources import file_place
from nanoocr.commandline import parse
from nanoocr.errors import UsageError
from tests.batch.fake import FakeReading

SECONDS = {"pool": 0.02, "ray": 0.2}  # of a page of the fake reader
# Of kills, those of the driver; a cluster of Ray takes long to start.
DRIVERS = {"pool": 0.33, "ray": 0.2}
READER = {"pool": "worker", "ray": "MapWorker"}
# In the command line of a worker process. A helper of Ray would take the whole node down with it.
WORKERS = {"pool": re.compile(rb"(spawn_main)"), "ray": re.compile(rb"ray::(MapWorker|Attempts|IDLE)")}


def make_pages(folder, pages, draw_page=None):
    """TIFFs of 1 to 40 pages, each page of its own colour, or as it is drawn."""
    folder.mkdir()
    draw, made = random.Random(1), 0
    while made < pages:
        count = min(draw.choice((1, 1, 1, 2, 5, 40)), pages - made)
        images = [(draw_page or coloured)(made + n) for n in range(count)]
        images[0].save(folder / f"{made:05d}.tif", save_all=True, append_images=images[1:])
        made += count


def coloured(number):
    return Image.new("RGB", (8, 8), (number % 251, number // 251, 9))


def lettered(number):
    """A line of text, for the real reader."""
    image = Image.new("RGB", (360, 60), "white")
    ImageDraw.Draw(image).text((10, 14), f"Page {number * 7919} here", "black", ImageFont.load_default(28))
    return image


def reading(kind, out, seconds):
    if kind == "fake":
        return partial(FakeReading, seconds, str(out / "files"))
    from nanoocr.batch.readings import ModelReading, Settings
    from nanoocr.inference.reader import ReaderChoice

    return partial(ModelReading, Settings(out, ReaderChoice(), "nano", "0", ("json",)), 1)


def run(folder, out, seconds=None, rows=50, engine="pool", reader="fake"):
    """One run of the driver, from wherever the one before was killed."""
    out.mkdir(exist_ok=True)
    ledger = Ledger(out)
    ledger.add(Found(file_place(p), p.name, p.stem) for p in sorted(folder.iterdir()))
    make = reading(reader, out, SECONDS[engine] if seconds is None else seconds)
    plan = Plan(workers=2, pages_at_once=4, rows=rows, beside=True)

    def tell(said):
        print(said, file=sys.stderr)

    if engine == "ray":
        from nanoocr.batch.ray_engine import drive_ray

        drive_ray(ledger, out, make, plan, tell, lambda: None, None)
    else:
        drive(ledger, out, make, plan, tell, lambda: None)
    ledger.close()


def workers_of(pid, engine):
    """The worker processes below a driver, each with its kind; helpers of Python and Ray are none."""
    below, found = [pid], {}
    while below:
        one = below.pop()
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                below += map(int, (task / "children").read_text().split())
            match = WORKERS[engine].search(Path(f"/proc/{one}/cmdline").read_bytes())
            if match and one != pid:
                found[one] = match[match.lastindex].decode().replace("spawn_main", "worker")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return found


def read_out(out):
    """{(file, page): text} of all shards, and how often each page is there."""
    rows = [row for p in sorted(out.glob("*.parquet")) for row in pq.read_table(p).to_pylist()]
    return {(r["file"], r["page"]): r["text"] for r in rows}, Counter((r["file"], r["page"]) for r in rows)


def crash(folder, out, kills, draw, engine="pool", reader="fake", longest=1.0):
    """Run and kill until so many kills have hit, then run to the end; gives the kills by kind."""
    command = [sys.executable, "-m", "tests.batch.crash", "run", str(folder), str(out), engine, reader]
    hit = Counter()
    while hit.total() < kills:
        driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        kind = ""
        while driver.poll() is None and kind != "driver" and hit.total() < kills:
            time.sleep(draw.uniform(0.05, longest))
            workers = workers_of(driver.pid, engine)
            if READER[engine] not in workers.values():
                continue  # before one is up, the death of the driver or of a helper would be no test
            kind = draw.choice(sorted(set(workers.values())))
            victim = draw.choice([pid for pid in workers if workers[pid] == kind])
            if draw.random() < DRIVERS[engine]:
                victim, kind = driver.pid, "driver"
            try:
                os.kill(victim, signal.SIGKILL)
                hit[kind] += 1
            except OSError:
                kind = ""
        if hit.total() < kills and driver.wait() == 0:
            break  # done before the kills were: the folder was too small
        driver.kill()
        driver.wait()
    subprocess.run(command, check=True)
    return hit


@dataclass(frozen=True)
class CrashConfig:
    """Kills a batch again and again, and compares with a run that nobody disturbed."""

    pages: int = 2000  # pages of all documents
    kills: int = 100  # how often
    seed: int = 0  # seeds the moments and the processes
    engine: Literal["pool", "ray"] = "pool"  # what reads in several processes
    reader: Literal["fake", "model"] = "fake"  # the fake reader, or the packaged model
    longest: float = 0.0  # most seconds between two kills; 0 is 1 for the fake reader in the pool, else 20

    def __post_init__(self):
        """Refuse a test of nothing."""
        if self.pages < 1 or self.kills < 1 or self.longest < 0:
            raise UsageError("--pages and --kills must be at least 1, and --longest not negative")


def main(argv=None):
    """Kill, compare with a run that nobody disturbed, and say what came of it."""
    import tempfile

    if sys.argv[1:2] == ["run"]:
        folder, out, engine, reader = sys.argv[2:]
        run(Path(folder), Path(out), engine=engine, reader=reader)
        return 0
    asked = parse(CrashConfig, argv, prog="python -m tests.batch.crash")
    engine, reader = asked.engine, asked.reader
    # Seconds between two kills: longer than a start takes, or nothing is ever read.
    longest = asked.longest or (1.0 if (engine, reader) == ("pool", "fake") else 20.0)
    with tempfile.TemporaryDirectory() as name:
        folder, out, whole = (Path(name, part) for part in ("in", "out", "whole"))
        make_pages(folder, asked.pages, lettered if reader == "model" else None)
        run(folder, whole, 0.0, reader=reader)
        draw = random.Random(asked.seed)
        hit = crash(folder, out, asked.kills, draw, engine, reader, longest)
        (texts, times), (expected, _) = read_out(out), read_out(whole)
        twice = sum(count > 1 for count in times.values())
        equal = texts == expected
        print(f"killed {dict(hit)}; {len(texts)} of {asked.pages} pages, {twice} twice, equal: {equal}")
        return 0 if equal and not twice and len(texts) == asked.pages else 1


if __name__ == "__main__":
    sys.exit(commandline.run(main))
