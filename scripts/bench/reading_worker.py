"""One engine in a process of its own, which reads the pictures that `scripts.bench.reading` names.

It takes `PATH<tab>KIND` a line on stdin and answers each with a line of JSON on stdout: the text, the seconds
by the clock and of the processor (child processes included), the seconds of each stage, and the most memory
so far. It is run as a file from the root of a checkout and uses the `nanoocr` of that one, so that an older
build can stand beside this one.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from PIL import Image

# Stage -> what does it: functions that do not call each other. What is left of a page is its "rest".
STAGES = {
    "layout": ("nanoocr.inference.lines", "find_page"),
    "strips": ("nanoocr.inference.lines", "cut_strips"),
    "encoder": ("nanoocr.inference.engine", "encode_and_draft"),
    "decoder": ("nanoocr.inference.engine", "Engine._judge"),
    "lines": ("nanoocr.inference.lines", "assemble"),
}


def processor_seconds() -> float:
    """Of this process and of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def timed(work: Callable[..., Any], stage: str, spent: dict[str, float]) -> Callable[..., Any]:
    """`work`, whose seconds of the processor are added to its stage.

    Only those of its own thread count, because others read lines of their own at the same time.
    """
    lock = threading.Lock()

    def measured(*args: Any, **kwargs: Any) -> Any:
        started = time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            with lock:
                spent[stage] += time.thread_time() - started

    return measured


def time_stages(stack: ExitStack, spent: dict[str, float]) -> None:
    """Measure every stage that this build has, until the stack is closed."""
    for stage, (module, name) in STAGES.items():
        try:
            owner: Any = __import__(module, fromlist=["_"])
            *path, last = name.split(".")
            for part in path:
                owner = getattr(owner, part)
            work = getattr(owner, last)
        except (ImportError, AttributeError):
            continue  # an older build has it elsewhere: its seconds are part of the rest
        stack.enter_context(patch.object(owner, last, timed(work, stage, spent)))


def open_engine(name: str, threads: int) -> Callable[[Image.Image, str], str]:
    """A peer by its name, or `nanoocr` and `nanoocr:DTYPE`: the model in the package."""
    if not name.startswith("nanoocr"):
        from nanoocr.eval.peers import make_peer

        return make_peer(name, threads).read
    import torch

    from nanoocr.inference.reader import Reader

    torch.set_num_threads(threads)
    reader = Reader(device="cpu", dtype=name.partition(":")[2] or "auto")
    return lambda image, kind: reader.read(image).text  # type: ignore[union-attr]


def main() -> None:
    """Answer until stdin ends."""
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal():
        print("usage: reading_worker.py ENGINE THREADS, started by scripts.bench.reading", file=sys.stderr)
        sys.exit(2)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints is no answer
    spent = dict.fromkeys(STAGES, 0.0)
    with ExitStack() as stack:
        read = open_engine(sys.argv[1], int(sys.argv[2]))
        if sys.argv[1].startswith("nanoocr"):
            time_stages(stack, spent)
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            path, kind = line.rstrip("\n").split("\t")
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            spent.update(dict.fromkeys(STAGES, 0.0))
            wall, processor = time.perf_counter(), processor_seconds()
            text = read(image, kind)
            answer = {
                "text": text,
                "wall": time.perf_counter() - wall,
                "processor": processor_seconds() - processor,
                "stages": spent if any(spent.values()) else {},
                "peak_bytes": peak_bytes(),
            }
            print(json.dumps(answer), file=answers, flush=True)


def peak_bytes() -> int:
    """The most memory that this process, or the largest child of it, has held."""
    children = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with open("/proc/self/status") as status:
        own = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return max(own, children)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main()
