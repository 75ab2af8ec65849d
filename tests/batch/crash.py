"""The crash test: a driver and its workers are killed at random, again and again, and nothing may be lost.

Usage: python -m tests.batch.crash [--pages=2000] [--kills=100] [--seed=0]

Many small TIFFs of several pages are read by the fake reader. As a program of its own it is also the driver
that is killed: python -m tests.batch.crash run FOLDER OUT.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from nanoocr.batch.drive import Plan, drive
from nanoocr.batch.ledger import Found, Ledger
from nanoocr.batch.sources import file_place
from tests.batch.fake import FakeReading

SECONDS = 0.02  # of a page


def make_pages(folder, pages):
    """TIFFs of 1 to 40 pages, each page of its own colour."""
    folder.mkdir()
    draw, made = random.Random(1), 0
    while made < pages:
        count = min(draw.choice((1, 1, 1, 2, 5, 40)), pages - made)
        images = [Image.new("RGB", (8, 8), ((made + n) % 251, (made + n) // 251, 9)) for n in range(count)]
        images[0].save(folder / f"{made:05d}.tif", save_all=True, append_images=images[1:])
        made += count


def run(folder, out, seconds=SECONDS, rows=50):
    """One run of the driver, from wherever the one before was killed."""
    out.mkdir(exist_ok=True)
    ledger = Ledger(out)
    ledger.add(Found(file_place(p), p.name, p.stem) for p in sorted(folder.iterdir()))
    make = partial(FakeReading, seconds, str(out / "files"))
    plan = Plan(workers=2, pages_at_once=4, rows=rows, beside=True)
    drive(ledger, out, make, plan, lambda said: print(said, file=sys.stderr), lambda: None)
    ledger.close()


def children(pid):
    """The worker processes of a driver; multiprocessing's own helper is none."""
    found = []
    for line in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{line}/cmdline").read_bytes():
            found.append(int(line))
    return found


def read_out(out):
    """{(file, page): text} of all shards, and how often each page is there."""
    rows = [row for p in sorted(out.glob("*.parquet")) for row in pq.read_table(p).to_pylist()]
    return {(r["file"], r["page"]): r["text"] for r in rows}, Counter((r["file"], r["page"]) for r in rows)


def crash(folder, out, kills, draw):
    """Run and kill until so many kills have hit, then run to the end; gives the kills by kind."""
    command = [sys.executable, "-m", "tests.batch.crash", "run", str(folder), str(out)]
    hit = Counter()
    while hit.total() < kills:
        driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        kind = "worker"
        while driver.poll() is None and kind == "worker" and hit.total() < kills:
            time.sleep(draw.uniform(0.05, 1.0))
            kind = draw.choice(("worker", "worker", "driver"))
            try:
                victim = driver.pid if kind == "driver" else draw.choice(children(driver.pid))
                os.kill(victim, signal.SIGKILL)
                hit[kind] += 1
            except (OSError, IndexError):
                continue  # no worker was up yet
        if hit.total() < kills and driver.wait() == 0:
            break  # done before the kills were: the folder was too small
        driver.kill() if kind == "driver" else None
        driver.wait()
    subprocess.run(command, check=True)
    return hit


def main():
    """Kill, compare with a run that nobody disturbed, and say what came of it."""
    if sys.argv[1:2] == ["run"]:
        run(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    import tempfile

    asked = dict(word.lstrip("-").split("=") for word in sys.argv[1:])
    pages, kills = int(asked.get("pages", 2000)), int(asked.get("kills", 100))
    with tempfile.TemporaryDirectory() as name:
        folder, out, whole = (Path(name, part) for part in ("in", "out", "whole"))
        make_pages(folder, pages)
        run(folder, whole, 0.0)
        hit = crash(folder, out, kills, random.Random(int(asked.get("seed", 0))))
        (texts, times), (expected, _) = read_out(out), read_out(whole)
        twice = sum(count > 1 for count in times.values())
        print(f"killed {dict(hit)}; {len(texts)} of {pages} pages, {twice} twice, equal: {texts == expected}")
        sys.exit(0 if texts == expected and not twice and len(texts) == pages else 1)


if __name__ == "__main__":
    main()
