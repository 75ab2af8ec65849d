"""The command `nanoocr batch`: reads any number of documents, and writes Parquet and files.

Heavy imports stand inside the functions, so that --help and mistyped flags are answered at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoocr.cli.flags import Parser, add_mark_flag, add_model_flags, positive, reader_choice
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
folder gets pages-NNNNNN.parquet, one row for each page, and a ledger. After a kill or a full disk the same
command with --resume continues. At the end a summary in JSON goes to stdout.
"""
RECALLED = ("device", "format", "prompt", "mode", "min_confidence", "mark_below", "max_tokens")
WORKERS_EACH = 8  # Most workers per processor. More is a slip of the finger, because each loads a model.
PAUSE, PAUSE_ON_SCREEN = 30.0, 2.0  # seconds between two progress lines


def add_batch_flags(batch: Parser) -> None:
    """Add the flags of `nanoocr batch`."""
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
        help="also write files for each input, as in --format=json,md,hocr,pdf, in DIR/files/",
    )
    batch.add_argument(
        "--workers", metavar="N", type=positive, help="worker processes (default: one per processor)"
    )
    batch.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        help="threads of each worker (default: its share of the processors)",
    )
    batch.add_argument(
        "--pages_at_once",
        "--pages-at-once",
        metavar="N",
        type=positive,
        default=4,
        help="pages that a worker gets at once; models of whole pages decode them together (default: 4)",
    )
    batch.add_argument(
        "--page_limit",
        "--page-limit",
        metavar="SECONDS",
        type=positive,
        default=900,
        help="replace a worker that takes more seconds for one page (default: %(default)s)",
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
    add_mark_flag(batch)
    add_model_flags(batch)
    batch.add_argument("-q", "--quiet", action="store_true", help="print nothing on stderr except errors")


def batch_command(arguments: argparse.Namespace) -> int:
    """Read everything that is left, and report in the exit code how it went."""
    from nanoocr.cli.batch_inputs import documents, named, refuse_missing

    _check(arguments)
    names = named(arguments.inputs, arguments.list)
    if not arguments.resume:
        refuse_missing(names)
    # only now, because this takes seconds
    from nanoocr.batch.again import forget_failures, restore, without_files
    from nanoocr.batch.drive import drive
    from nanoocr.batch.pace import watch
    from nanoocr.batch.readings import FILES, ModelReading
    from nanoocr.batch.twins import copy_twins
    from nanoocr.formats import FORMATS

    # parse all flags before a mistyped one can leave anything behind
    settings, plan = _settings(arguments), _plan(arguments)
    with _held(arguments.out):
        ledger = _open_ledger(arguments)
        if arguments.resume:
            _recall(arguments, ledger)
            settings, plan = _settings(arguments), _plan(arguments)
        ledger.agree(_options(settings), {"model": str(settings.choice.model), "device": arguments.device})
        numbered = any(FORMATS[name].per_page for name in settings.formats)
        ledger.add(_told(documents(names, ledger.known(), arguments.quiet, arguments.out, numbered)))
        if ledger.is_empty():
            raise UsageError(f"{arguments.out} holds no documents yet: name the inputs again")
        beside = arguments.out / FILES
        restored = restore(ledger, arguments.out, beside, settings.formats)
        for sentence in restored:
            _say(sentence, arguments.quiet)
        if arguments.retry_failed:
            for container in forget_failures(ledger):
                _list_again(ledger, container, numbered)
        on_screen = sys.stderr.isatty() and not arguments.quiet
        watching = watch(
            ledger, PAUSE_ON_SCREEN if on_screen else PAUSE, partial(_say, quiet=arguments.quiet, kind="")
        )
        tell = partial(_say, quiet=arguments.quiet)
        make = partial(ModelReading, settings, plan.threads)
        if arguments.engine == "ray":
            from nanoocr.batch.ray_engine import drive_ray

            drive_ray(ledger, arguments.out, make, plan, tell, watching.look, arguments.address)
        else:
            drive(ledger, arguments.out, make, plan, tell, watching.look)
        copy_twins(ledger, beside, settings.formats)
        code = _summary(arguments, watching)
        if restored and (bare := list(without_files(ledger, beside, settings.formats))):
            _say(f"error: {bare[0][1]} could not be written again, its input is not as it was", quiet=False)
            code = code or SOME_FAILED
        ledger.close()
    return code


def _check(arguments: argparse.Namespace) -> None:
    """Refuse flags that contradict each other."""
    from nanoocr.batch.ledger import LEDGER

    if arguments.resume and not (arguments.out / LEDGER).exists():
        raise UsageError(f"{arguments.out} holds no batch to go on with: leave --resume out")
    if arguments.retry_failed and not arguments.resume:
        raise UsageError("--retry_failed tries again what failed before, so it goes with --resume")
    if arguments.format is not None and not arguments.format.strip(" ,"):
        raise UsageError("--format is empty: name formats, as in --format=json,pdf, or leave it out")
    if not (arguments.inputs or arguments.list or arguments.resume):
        raise UsageError("there is nothing to read: name files or folders, or --list=FILE")
    if arguments.address and arguments.engine != "ray":
        raise UsageError("--address names a cluster of Ray, so it goes with --engine=ray")


def _open_ledger(arguments: argparse.Namespace) -> Ledger:
    """Open the ledger. One without any document belongs to no batch yet, and is begun anew.

    Raises:
        UsageError: the folder holds a batch that is not to go on, or files that a new one would replace.
    """
    from nanoocr.batch.ledger import Ledger
    from nanoocr.batch.shards import FAILED, shards_in

    ledger = Ledger(arguments.out)
    if ledger.is_empty():
        strange = [*shards_in(arguments.out), *arguments.out.glob(FAILED)]
        if strange:
            ledger.close()
            raise UsageError(f"{strange[0]} is there and of no batch that is known here: name another --out")
    if not ledger.is_empty() and not arguments.resume:
        ledger.close()
        raise UsageError(f"{arguments.out} holds a batch: go on with --resume, or name another --out")
    return ledger


def _recall(arguments: argparse.Namespace, ledger: Ledger) -> None:
    """Take flags that a resumed command does not give from the first run."""
    _settle_dtype(arguments, ledger)
    kept = ledger.options()
    for name in RECALLED:
        if getattr(arguments, name) is None:
            setattr(arguments, name, kept.get(name))
    if arguments.dtype == "auto":
        arguments.dtype = kept.get("dtype", "auto")
    if arguments.model is None and kept.get("model"):
        arguments.model = Path(kept["model"])


def _settle_dtype(arguments: argparse.Namespace, ledger: Ledger) -> None:
    """Write down what `auto` meant to an older version: float32 on a CPU, and on a GPU what it means now.

    Versions of now write `auto` for a named GPU alone, and the device beside it.
    """
    from nanoocr.inference.reader import choose_device, choose_dtype

    kept = ledger.options()
    if kept.get("dtype") != "auto" or "device" in kept:
        return
    device = choose_device(arguments.device)
    if device.type == "cpu":
        ledger.settle({"dtype": "float32"})
    elif arguments.device is None:
        ledger.settle({"dtype": str(choose_dtype("auto", device)).removeprefix("torch.")})


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keep other batches from writing to the folder during the `with` block.

    Raises:
        UsageError: another batch does.
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


def _told(found: Iterable[Found]) -> Iterator[Found]:
    """What was found, with a word about what cannot be opened: no worker will come to that."""
    for one in found:
        if one.error:
            _say(f"error: {one.error}", quiet=False)
        yield one


def _list_again(ledger: Ledger, container: Found, numbered: bool) -> None:
    """Note what is in a container that could not be listed; somebody may have mended it."""
    from nanoocr.batch.sources import open_container, unique_stems

    known, errors = ledger.known(), list[str | None]()

    def found() -> Iterator[Found]:
        """What is in it and not known."""
        for one in open_container(json.loads(container.place), container.name, container.stem):
            if one.place == container.place:
                errors.append(one.error)
            elif one.place not in known:
                yield one

    ledger.add(_told(unique_stems(found(), set(known.values()), numbered)))
    for error in errors:
        _say(f"error: {error}", quiet=False)
    # After what is in it: killed between the two, a run would have forgotten it.
    ledger.listed(container.place, errors[0] if errors else None)


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
    from nanoocr.formats.marks import check_formats
    from nanoocr.inference.reader import choose_device, choose_dtype, default_model_folder
    from nanoocr.model.folder import model_folder

    names = (arguments.format or "").split(",")
    formats = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in formats:
        find_format(name)
    if formats or not arguments.resume:  # a resumed command need not say its formats again
        check_formats(arguments.mark_below, formats)
    choice = reader_choice(arguments, arguments.pages_at_once)
    # Decided here and once, as workers may run on machines of which not all would choose the same.
    dtype = choice.dtype
    if choice.device in (None, "cpu"):
        dtype = str(choose_dtype(dtype, choose_device(choice.device))).removeprefix("torch.")
    # Workers get the folder itself: a run's newest step may be another one by the time that a worker starts.
    model = model_folder(choice.model or default_model_folder()).absolute()
    files = read_manifest(model)["files"]
    weights = next((entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")), "")
    return Settings(
        out=arguments.out,
        choice=replace(choice, model=model, dtype=dtype),
        model_name=f"{model.name} {weights[:12]}".strip(),
        version=version("nano-deepseek-ocr"),
        formats=formats,
        prompt=arguments.prompt,
        max_tokens=arguments.max_tokens,
        mark_below=arguments.mark_below,
    )


def _options(settings: Settings) -> dict[str, Any]:
    """The settings on which texts and files depend, and which a resumed batch must not change."""
    kept = {
        name: getattr(settings, name)
        for name in ("model_name", "version", "prompt", "max_tokens", "mark_below")
    }
    chosen = {name: getattr(settings.choice, name) for name in ("mode", "min_confidence", "dtype")}
    return {**kept, **chosen, "format": ",".join(settings.formats)}


def _plan(arguments: argparse.Namespace) -> Plan:
    from nanoocr.batch.drive import Plan

    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = arguments.workers or processors
    if (arguments.threads or 1) > processors:
        raise UsageError(f"--threads={arguments.threads}: this machine has {processors}, as in --threads=1")
    if workers > WORKERS_EACH * processors:
        raise UsageError(f"--workers={workers}: this machine has {processors} processors, as in --workers=2")
    return Plan(
        workers=workers,
        threads=arguments.threads or _share_of_threads(processors, workers),
        pages_at_once=arguments.pages_at_once,
        page_limit=float(arguments.page_limit),
        beside=bool(arguments.format),
        gpus=float((arguments.device or "").startswith("cuda")),
    )


def _share_of_threads(processors: int, workers: int) -> int:
    """Threads of each worker. Beside other work two threads wait for each other; a single one does not."""
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    idle = processors - round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else processors
    return max(1, idle // workers)
