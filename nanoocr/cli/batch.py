"""The command `nanoocr batch`: any number of documents in, Parquet and files beside out.

Heavy imports stand inside the functions, so that --help and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from nanoocr.cli.flags import Parser, positive, share
from nanoocr.cli.inputs import find_inputs, shown
from nanoocr.cli.output import opened, write
from nanoocr.cli.read import NOTHING_READ, SOME_FAILED
from nanoocr.errors import OutputError, UsageError

if TYPE_CHECKING:
    from nanoocr.batch.drive import Plan
    from nanoocr.batch.ledger import Found, Ledger
    from nanoocr.batch.pace import Watch
    from nanoocr.batch.readings import Settings

BATCH_HELP = """\
Reads files, folders, patterns, .tar archives (WebDataset's too) and .parquet files with pictures. The output
folder gets pages-NNNNNN.parquet, one row for each page, and a ledger: after a kill or a full disk
the same command with --resume goes on. At the end a summary in JSON goes to stdout.
"""
PAUSE, PAUSE_ON_SCREEN = 30.0, 2.0  # seconds between two lines about how far it is


def add_batch_flags(batch: Parser) -> None:
    """The flags of `nanoocr batch`."""
    batch.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="file, folder, pattern, .tar, .parquet, or s3://... and the like",
    )
    batch.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder of the batch")
    batch.add_argument("--list", metavar="FILE", help="more inputs, one a line; - is stdin")
    batch.add_argument("--resume", action="store_true", help="go on with the batch in --out")
    batch.add_argument(
        "--retry_failed", "--retry-failed", action="store_true", help="with --resume: try again what failed"
    )
    batch.add_argument(
        "--format",
        metavar="LIST",
        help="also write a file beside for each input, as in --format=json,md,hocr,pdf, in DIR/files/",
    )
    batch.add_argument("--workers", metavar="N", type=positive, help="processes (default: one a processor)")
    batch.add_argument("--threads", metavar="N", type=positive, help="of each worker (default: its share)")
    batch.add_argument(
        "--pages_at_once",
        "--pages-at-once",
        metavar="N",
        type=positive,
        default=4,
        help="pages that a worker is given together; models of whole pages decode them together (default: 4)",
    )
    batch.add_argument(
        "--page_limit",
        "--page-limit",
        metavar="SECONDS",
        type=positive,
        default=900,
        help="most seconds for one page (default: %(default)s)",
    )
    batch.add_argument(
        "--engine",
        choices=("pool", "ray"),
        default="pool",
        help="processes here, or Ray Data (default: pool)",
    )
    batch.add_argument(
        "--address", metavar="NAME", help="with --engine=ray: the cluster (default: a local one)"
    )
    _add_reading_flags(batch)
    batch.add_argument("-q", "--quiet", action="store_true", help="say nothing on stderr but errors")


def _add_reading_flags(batch: Parser) -> None:
    batch.add_argument("--model", metavar="DIR", type=Path, help="model folder (default: the package's)")
    batch.add_argument("--prompt", metavar="TEXT", default="Read.", help="what to ask (default: %(default)s)")
    batch.add_argument("--mode", metavar="NAME", help="as of nanoocr read")
    batch.add_argument(
        "--min_confidence", "--min-confidence", metavar="P", type=share, help="as of nanoocr read"
    )
    batch.add_argument("--max_tokens", "--max-tokens", metavar="N", type=positive, help="as of nanoocr read")
    batch.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    batch.add_argument("--dtype", metavar="NAME", default="auto", help="auto, float32 or bfloat16")


def batch_command(arguments: argparse.Namespace) -> int:
    """Read all that is left, and say in the exit code how it went."""
    from nanoocr.batch.drive import drive
    from nanoocr.batch.ledger import LEDGER, Ledger
    from nanoocr.batch.pace import watch
    from nanoocr.batch.readings import FILES, model_reading
    from nanoocr.batch.twins import copy_twins

    _check(arguments, (arguments.out / LEDGER).exists())
    settings, plan = _settings(arguments), _plan(arguments)
    with _held(arguments.out):
        ledger = Ledger(arguments.out)
        ledger.agree(_options(settings))
        ledger.add(_documents(arguments, ledger))
        if arguments.retry_failed:
            ledger.forget_failures()
        on_screen = sys.stderr.isatty() and not arguments.quiet
        watching = watch(
            ledger, PAUSE_ON_SCREEN if on_screen else PAUSE, partial(_say, quiet=arguments.quiet, kind="")
        )
        tell = partial(_say, quiet=arguments.quiet)
        make = partial(model_reading, settings)
        if arguments.engine == "ray":
            from nanoocr.batch.ray_engine import drive_ray

            drive_ray(ledger, arguments.out, make, plan, tell, watching.look, arguments.address)
        else:
            drive(ledger, arguments.out, make, plan, tell, watching.look)
        copy_twins(ledger, arguments.out / FILES, settings.formats)
        code = _summary(arguments, watching)
        ledger.close()
    return code


def _check(arguments: argparse.Namespace, exists: bool) -> None:
    """Refuse a folder that holds another batch, and flags that do not go together."""
    if exists and not arguments.resume:
        raise UsageError(f"{arguments.out} holds a batch: go on with --resume, or name another --out")
    if arguments.resume and not exists:
        raise UsageError(f"{arguments.out} holds no batch to go on with: leave --resume out")
    if arguments.retry_failed and not arguments.resume:
        raise UsageError("--retry_failed tries again what failed before, so it goes with --resume")
    if not (arguments.inputs or arguments.list or arguments.resume):
        raise UsageError("there is nothing to read: name files or folders, or --list=FILE")
    if arguments.address and arguments.engine != "ray":
        raise UsageError("--address names a cluster of Ray, so it goes with --engine=ray")


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Within, no other batch writes to the folder.

    Raises:
        UsageError: one does.
        OutputError: the folder cannot be written.
    """
    from nanoocr.train.lock import LOCK, give_back, take, touch

    try:
        refused = take(out, "another --out")
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error
    if refused:
        raise UsageError(refused)
    done = threading.Event()
    threading.Thread(target=touch, args=(out / LOCK, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        give_back(out)


def _say(said: str, quiet: bool, kind: str = "") -> None:
    if not quiet or said.startswith("error:"):
        print(f"{kind}{said}", file=sys.stderr, flush=True)


def _summary(arguments: argparse.Namespace, watching: Watch) -> int:
    """Print and keep the summary; returns the exit code."""
    from nanoocr.formats import save

    pace = watching.pace()
    text = json.dumps({"out": str(arguments.out), **pace.summary()}) + "\n"
    save(arguments.out / "summary.json", text.encode())
    with opened("-") as out:
        write(out, text, "-")
    if pace.now.failed:
        return SOME_FAILED if pace.now.done else NOTHING_READ
    return 0


# ---------------------------------------------------------------------------------------------------
# What the flags mean


def _settings(arguments: argparse.Namespace) -> Settings:
    from importlib.metadata import version

    from nanoocr.batch.readings import Settings
    from nanoocr.files import read_manifest
    from nanoocr.formats import find_format

    names = (arguments.format or "").split(",")
    formats = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in formats:
        find_format(name)
    model = (arguments.model or _packaged_model()).absolute()
    files = read_manifest(model)["files"]
    weights = next((entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")), "")
    return Settings(
        out=arguments.out,
        model=model,
        model_name=f"{model.name} {weights[:12]}".strip(),
        version=version("nano-deepseek-ocr"),
        formats=formats,
        prompt=arguments.prompt,
        mode=arguments.mode,
        min_confidence=arguments.min_confidence,
        max_tokens=arguments.max_tokens,
        max_batch=max(arguments.pages_at_once, 1),
        device=arguments.device,
        dtype=arguments.dtype,
    )


def _packaged_model() -> Path:
    from nanoocr.inference.reader import default_model_folder

    return default_model_folder()


def _options(settings: Settings) -> dict[str, Any]:
    """What the texts and the files hang on, which a resumed batch must not change."""
    kept = ("model_name", "version", "prompt", "mode", "min_confidence", "max_tokens", "dtype")
    return {**{name: getattr(settings, name) for name in kept}, "format": ",".join(settings.formats)}


def _plan(arguments: argparse.Namespace) -> Plan:
    from nanoocr.batch.drive import Plan

    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = arguments.workers or processors
    return Plan(
        workers=workers,
        threads=arguments.threads or _share_of_threads(processors, workers),
        pages_at_once=arguments.pages_at_once,
        page_limit=float(arguments.page_limit),
        beside=bool(arguments.format),
    )


def _share_of_threads(processors: int, workers: int) -> int:
    """Threads of each worker; beside other work two threads wait for each other, and one alone does not."""
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    idle = processors - round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else processors
    return max(1, idle // workers)


# ---------------------------------------------------------------------------------------------------
# Inputs


def _documents(arguments: argparse.Namespace, ledger: Ledger) -> Iterator[Found]:
    """Every document that the inputs name, once."""
    from nanoocr.batch.sources import unique_stems

    names = [*arguments.inputs, *_listed(arguments.list)]
    if not names:
        return
    known = ledger.known()
    fresh = (found for found in _found(names, arguments.quiet) if found.place not in known)
    yield from unique_stems(fresh, set(known.values()))


def _listed(name: str | None) -> list[str]:
    """The lines of a list that are not empty.

    Raises:
        UsageError: the list cannot be read.
    """
    if name is None:
        return []
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"--list={name} cannot be read: {error.strerror}") from error
    return [os.fsdecode(line) for line in text.splitlines() if line.strip()]


def _found(names: Sequence[str], quiet: bool) -> Iterator[Found]:
    from nanoocr.batch.sources import is_container, open_container, uri_document

    plain: list[str] = []
    for name in _expanded(names):
        if "://" in name:
            yield uri_document(name)
        elif is_container(name) and os.path.isfile(name):
            yield from open_container(Path(name))
        else:
            plain.append(name)
    yield from _files(plain, quiet)


def _expanded(names: Iterable[str]) -> Iterator[str]:
    """Patterns replaced by what they fit; a name that exists is no pattern, whatever is in it."""
    for name in names:
        if "://" in name or os.path.exists(name) or not glob.has_magic(name):
            yield name
            continue
        fitting = sorted(glob.glob(name, recursive=True))
        if not fitting:
            raise UsageError(f"nothing fits the pattern {name}: see whether the folder is right")
        yield from fitting


def _files(names: Sequence[str], quiet: bool) -> Iterator[Found]:
    """Files by name and what is in folders."""
    from nanoocr.batch.ledger import Found
    from nanoocr.batch.sources import file_place

    if "-" in names:
        raise UsageError("a batch reads no picture from stdin: write --list=- for a list of files")
    inputs = find_inputs(names)
    if (told := inputs.told()) and not quiet:
        print(told, file=sys.stderr)
    for item in inputs.files:
        place = file_place(item.source if item.source is not None else Path(item.name))
        stem = shown(str(PurePath(item.place).with_suffix("")))
        yield Found(place, item.name, stem, None if item.error is None else str(item.error))
