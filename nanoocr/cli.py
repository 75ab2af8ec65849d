"""The command `nanoocr`: read pictures, show what a model is, take weights in and give them out.

Results on stdout, everything else on stderr. Exit codes: 0 all read, 2 wrong usage, 3 nothing could be read,
4 model unusable, 5 some inputs failed and the others were read, 6 output not writable, 130 interrupted.
Heavy imports stand inside the commands, so that --help and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import stat
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO

from nanoocr.commandline import run
from nanoocr.errors import OutputError, PictureError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from nanoocr.inference.reader import Page
    from nanoocr.inference.sources import PageRanges, Picture

# What a folder is searched for; a file that is named outright is judged by its content alone.
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf"))

NOTHING_READ, SOME_FAILED = 3, 5

READ_HELP = """\
Text goes to stdout. One input gives its text alone; several inputs, or a folder, give a line
"==> name <==" before each text. Pages of one PDF or TIFF are separated by a form feed. With --json every
page is one line: file, page, text, status (ok, truncated, repetition, error), error, seconds, tokens,
confidence.
"""


CONVERT_HELP = """\
SRC is a hub name OWNER/NAME@REVISION (without a revision: the commit pinned in nanoocr/model/weight_files.py,
or else main), a folder, or a file. What no source brings is fresh. Every key of a source is loaded or known
to be useless; anything else ends the conversion.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    return arguments.command(arguments)


# ---------------------------------------------------------------------------------------------------
# Flags


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence, like all others here."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nanoocr", description="Read text from pictures.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    read = commands.add_parser(
        "read",
        help="read pictures and pages of PDFs and TIFFs",
        description=READ_HELP,
        allow_abbrev=False,
    )
    _add_read_flags(read)
    read.set_defaults(command=read_command)
    info = commands.add_parser("info", help="show what a model is", allow_abbrev=False)
    info.add_argument("--model", metavar="DIR", type=Path, help="model folder (default: the package's)")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(command=info_command)
    convert = commands.add_parser(
        "convert", help="make a model folder of others' weights", description=CONVERT_HELP, allow_abbrev=False
    )
    _add_convert_flags(convert)
    convert.set_defaults(command=convert_command)
    export = commands.add_parser("export", help="give a model to others' tools", allow_abbrev=False)
    export.add_argument("--model", metavar="DIR", type=Path, help="model folder (default: the package's)")
    export.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="gets gpt/ (transformers) and encoder/ (DeepSeek-OCR keys)",
    )
    export.set_defaults(command=export_command)
    return parser


def _add_convert_flags(convert: argparse.ArgumentParser) -> None:
    convert.add_argument("--out", metavar="DIR", required=True, help="the model folder to write")
    convert.add_argument("--preset", default="d20", help="sizes of the encoder (default: %(default)s)")
    convert.add_argument("--sam", metavar="SRC", default="", help="SAM-ViT, as facebook/sam-vit-base")
    convert.add_argument(
        "--clip", metavar="SRC", default="", help="CLIP-ViT, as openai/clip-vit-large-patch14"
    )
    convert.add_argument(
        "--deepseek_ocr",
        "--deepseek-ocr",
        metavar="SRC",
        default="",
        help="the whole encoder, as deepseek-ai/DeepSeek-OCR",
    )
    convert.add_argument(
        "--deepencoder",
        metavar="FILE",
        default="",
        help="the whole encoder: a deepencoder_NNNNNN.safetensors of stage 1",
    )
    convert.add_argument(
        "--gpt", metavar="SRC", default="", help="nanochat's GPT, as nanochat-students/base-d20"
    )
    convert.add_argument(
        "--tokenizer", metavar="FILE", default="", help="tokenizer.json of ours or nanochat's tokenizer.pkl"
    )
    convert.add_argument("--seed", metavar="N", type=int, default=0, help="of the weights no source brings")
    convert.add_argument(
        "--verify", action="store_true", help="refuse a GPT that does not know English; print what it says"
    )


def _add_read_flags(read: argparse.ArgumentParser) -> None:
    read.add_argument(
        "files", nargs="+", metavar="FILE", help="picture, PDF, folder (read recursively), or - for stdin"
    )
    read.add_argument("--json", action="store_true", help="print one JSON object per page")
    read.add_argument("--model", metavar="DIR", type=Path, help="model folder (default: the package's)")
    read.add_argument("--prompt", metavar="TEXT", default="Read.", help="what to ask (default: %(default)s)")
    read.add_argument(
        "--mode",
        metavar="NAME",
        help="tiny, small, base, large, gundam or gundam-m (default: the model's own views)",
    )
    read.add_argument(
        "--pages", metavar="LIST", default="1-end", help="of PDFs and TIFFs, from 1, as in 1-3,7,end"
    )
    read.add_argument(
        "--max_tokens",
        "--max-tokens",
        metavar="N",
        type=_positive,
        help="most tokens per page (default: what fits the model)",
    )
    read.add_argument(
        "--max_batch", "--max-batch", metavar="N", type=_positive, default=32, help="pages decoded together"
    )
    read.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    read.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    read.add_argument(
        "-o", "--output", metavar="OUT", default="-", help="write results to this file, never an input"
    )
    read.add_argument("-q", "--quiet", action="store_true", help="say nothing on stderr but errors")


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number


class _Version(argparse.Action):
    """Looks the version up only when asked: that is not free."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"nanoocr {version('nano-deepseek-ocr')}")
        parser.exit()


# ---------------------------------------------------------------------------------------------------
# nanoocr read


class Input(NamedTuple):
    """One file to read, by path or (stdin) by content; or why there is none."""

    name: str
    source: Path | bytes | None = None
    error: PictureError | None = None


def read_command(arguments: argparse.Namespace) -> int:
    """Read everything, report as it comes, and say in the exit code how it went."""
    from nanoocr.inference.sources import parse_pages

    pages = parse_pages(arguments.pages)
    inputs = find_inputs(arguments.files)
    _refuse_overwriting(arguments.output, inputs)
    headed = len(arguments.files) > 1 or any(map(os.path.isdir, arguments.files))
    counts = {"read": 0, "failed": 0}
    with _opened(arguments.output) as out, _bar(arguments.quiet, len(inputs)) as bar:
        written: Page | None = None
        ends: list[int] = []
        for page in _read_pages(arguments, inputs, pages, ends):
            if not any(counts.values()):
                _empty(out, arguments.output)
            with _paused(bar):
                text = f"{page.to_json()}\n" if arguments.json else _as_text(page, written, headed)
                _write(out, text, arguments.output)
                _report(page, arguments.quiet, brief=bar is not None)
            counts["failed" if page.status == "error" else "read"] += 1
            _advance(bar, sum(counts.values()), ends)
            written = written if page.status == "error" else page
    total = sum(counts.values())
    if total > 1 and not arguments.quiet:
        print(f"read {counts['read']} of {total} pages", file=sys.stderr)
    if counts["failed"]:
        return SOME_FAILED if counts["read"] else NOTHING_READ
    return 0


def find_inputs(names: Sequence[str]) -> list[Input]:
    """Files in the order named, folders replaced by what is in them, in name order.

    Raises:
        UsageError: `-` is named twice; stdin can be read once.
    """
    if names.count("-") > 1:
        raise UsageError("- (stdin) is named twice, but it can be read only once")
    inputs: list[Input] = []
    for name in names:
        if name == "-":
            inputs.append(Input(name))
        elif os.path.isdir(name):
            inputs.extend(_search(Path(name)))
        else:
            inputs.append(Input(_shown(name), Path(name)))
    return inputs


def _search(folder: Path) -> list[Input]:
    """The pictures and PDFs below a folder; hidden files and folders are left out."""
    found: list[Path] = []
    failed: list[Input] = []

    def note(error: OSError) -> None:
        name = _shown(str(error.filename or folder))
        failed.append(Input(name, error=PictureError(f"{name} cannot be searched: {error.strerror}.")))

    for where, folders, files in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(where, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    if not found and not failed:
        name = _shown(str(folder))
        failed.append(Input(name, error=PictureError(f"{name} holds no pictures or PDFs.", kind="empty")))
    return [*(Input(_shown(str(path)), path) for path in sorted(found, key=lambda path: path.parts)), *failed]


def _refuse_overwriting(output: str, inputs: Sequence[Input]) -> None:
    """Raises UsageError where the results would take the place of a picture."""
    if output == "-" or not os.path.exists(output):
        return
    for item in inputs:
        path = item.source
        if isinstance(path, Path) and os.path.exists(path) and os.path.samefile(path, output):
            raise UsageError(f"--output={output} is {item.name}, which is to be read: name another file")


def _shown(name: str) -> str:
    """A file name as valid UTF-8, which file systems do not promise."""
    return os.fsencode(name).decode("utf-8", "replace")


def _read_pages(
    arguments: argparse.Namespace, inputs: list[Input], pages: PageRanges, ends: list[int]
) -> Iterator[Page]:
    """The pages of all inputs, in order; `ends` as in `_pictures`."""
    from nanoocr.inference.reader import Reader, make_page

    pictures = _pictures(inputs, pages, ends)
    if not any(_may_be_readable(item) for item in inputs):
        # No model is needed to say that there is nothing to read.
        yield from (make_page(picture, None, 0.0) for picture in pictures)
        return
    reader = Reader(
        arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        max_batch=arguments.max_batch,
        mode=arguments.mode,
    )
    yield from reader.read_pictures(pictures, arguments.prompt, max_tokens=arguments.max_tokens)


def _pictures(inputs: list[Input], pages: PageRanges, ends: list[int]) -> Iterator[Picture]:
    """The pages of all inputs, opened as they are asked for.

    `ends` gets the number of pages up to the end of each input, once that is opened to its end.
    """
    count = 0
    for item in inputs:
        for picture in _open(item, pages):
            count += 1
            yield picture
        ends.append(count)


def _open(item: Input, pages: PageRanges) -> Iterator[Picture]:
    from nanoocr.inference.sources import Picture, open_source

    if item.error is not None:
        return iter([Picture(item.name, 1, error=item.error)])
    return open_source(_stdin() if item.source is None else item.source, item.name, pages)


def _may_be_readable(item: Input) -> bool:
    # Not Path.exists, which raises where a folder is closed to us or a name is too long.
    return item.error is None and (not isinstance(item.source, Path) or os.path.exists(item.source))


def _stdin() -> bytes:
    from nanoocr.inference.sources import MAX_BYTES

    if sys.stdin is None:
        raise UsageError("- (stdin) cannot be read: it is closed")
    return sys.stdin.buffer.read(MAX_BYTES + 1)  # one more than is allowed: not cut, but refused


# ---------------------------------------------------------------------------------------------------
# Output


@contextlib.contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    """The file for the results; opened before the work, so that a bad path costs no time.

    What an older run wrote stays in it until the first page arrives: see `_empty`.
    """
    if output == "-":
        if sys.stdout is None:
            raise OutputError("stdout cannot be written: it is closed")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # the texts are Unicode, whatever the locale
        yield sys.stdout
        return
    try:
        file = open(output, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from error
    with file:
        yield file


def _empty(out: TextIO, output: str) -> None:
    """Drop what an older run wrote; stdout, a pipe or a device keeps what it has got."""
    if output != "-" and stat.S_ISREG(os.fstat(out.fileno()).st_mode):
        out.truncate(0)


def _write(out: TextIO, text: str, output: str) -> None:
    """Write and flush, so that what was read survives whatever comes next."""
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if output == "-":
            # Python flushes stdout once more at exit; give it a sink.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        name = "stdout" if output == "-" else output
        raise OutputError(f"{name} cannot be written: {error.strerror}") from error


def _as_text(page: Page, before: Page | None, headed: bool) -> str:
    """The text of a page with what sets it apart from the page written before."""
    if page.status == "error":
        return ""
    if before is not None and before.file == page.file:
        return f"\f{page.text}\n"
    header = f"==> {page.file} <==\n" if headed else ""
    return f"{header if before is None else chr(10) + header}{page.text}\n"


def _report(page: Page, quiet: bool, brief: bool) -> None:
    """One line on stderr; `brief` leaves out the pages that went well, which the bar counts."""
    name = page.file if page.page == 1 else f"{page.file}, page {page.page}"
    if page.status == "error":
        print(f"error: {page.error}", file=sys.stderr)
    elif quiet:
        return
    elif page.status != "ok":
        print(f"warning: {name}: the text is cut off ({page.status})", file=sys.stderr)
    elif not brief:
        print(f"{name}: ok, {page.tokens.text} tokens, {page.seconds:.2f} s", file=sys.stderr)


@contextlib.contextmanager
def _bar(quiet: bool, total: int) -> Iterator[Progress | None]:
    """A progress bar over the inputs where stderr is a terminal, else None."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task("reading", total=total)
        yield bar


def _advance(bar: Progress | None, count: int, ends: list[int]) -> None:
    """Show that `count` pages have been read: inputs are opened ahead of that, a batch at a time."""
    if bar is not None:
        done = bisect_right(ends, count)
        bar.update(bar.task_ids[0], completed=done, description=f"reading, pages done: {count}")


@contextlib.contextmanager
def _paused(bar: Progress | None) -> Iterator[None]:
    """Take the bar off the terminal while text is printed: both may be the same screen."""
    if bar is not None:
        bar.stop()
    yield
    if bar is not None:
        bar.start()


# ---------------------------------------------------------------------------------------------------
# nanoocr info


def info_command(arguments: argparse.Namespace) -> int:
    """Print what a model folder holds, after checking its files against their sha256."""
    facts = model_facts(arguments.model)
    with _opened("-") as out:
        if arguments.json:
            _write(out, json.dumps(facts) + "\n", "-")
            return 0
        for name, value in facts.items():
            entries = value.items() if isinstance(value, dict) else [("", value)]
            _write(out, "".join(f"{f'{name} {key}'.strip():<28} {entry}\n" for key, entry in entries), "-")
    return 0


def model_facts(folder: Path | None) -> dict[str, Any]:
    """Configuration, parameters by part and checksums of a model folder; loads no weights.

    Raises:
        CheckpointError: the folder is missing, damaged, or of another format version.
    """
    import torch

    from nanoocr.files import read_folder, read_manifest
    from nanoocr.inference.reader import default_model_folder
    from nanoocr.model.vlm import VLM, count_parameters
    from nanoocr.train.checkpoint import CONFIG, SHARDS, STATE, read_config

    folder = folder or default_model_folder()
    files = read_folder(folder, skip=(STATE, SHARDS))
    config = read_config(files.get(CONFIG, b""), folder / CONFIG)
    with torch.device("meta"):
        model = VLM(config)
    parts = {
        "sam": model.encoder.sam_model,
        "clip": model.encoder.vision_model,
        "projector": model.encoder.projector,
        "gpt": model.gpt,
        "total": model,
    }
    return {
        "folder": str(folder),
        "preset": config.name,
        "views": " ".join(f"{height}x{width}" for height, width in config.views),
        "vocabulary": config.gpt.vocab_size,
        "sequence": config.gpt.sequence_len,
        "parameters": {name: count_parameters(part) for name, part in parts.items()},
        "about": json.loads(files[CONFIG]).get("about", {}),
        "sha256": {name: entry["sha256"] for name, entry in read_manifest(folder)["files"].items()},
        "torch": torch.__version__,
    }


# ---------------------------------------------------------------------------------------------------
# nanoocr convert, nanoocr export


def convert_command(arguments: argparse.Namespace) -> int:
    """Others' weights as a model folder; says what was loaded, what is new and what was dropped."""
    from nanoocr.convert import Sources, convert

    sources = Sources(
        sam=arguments.sam,
        clip=arguments.clip,
        deepseek_ocr=arguments.deepseek_ocr,
        deepencoder=arguments.deepencoder,
        gpt=arguments.gpt,
        tokenizer=arguments.tokenizer,
    )
    done = convert(
        sources, arguments.out, preset_name=arguments.preset, seed=arguments.seed, verify=arguments.verify
    )
    lines = [
        *map(str, done.reports),
        f"random from seed {arguments.seed}: {', '.join(done.fresh) or 'nothing'}",
    ]
    with _opened("-") as out:
        for line in lines if done.check is None else [*lines, str(done.check)]:
            _write(out, f"{line}\n", "-")
    print(f"wrote {arguments.out}", file=sys.stderr)
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """A model folder as a transformers folder and a DeepSeek-OCR encoder."""
    from nanoocr.convert import export
    from nanoocr.inference.reader import default_model_folder

    counts = export(str(arguments.model or default_model_folder()), arguments.out)
    with _opened("-") as out:
        _write(
            out, "".join(f"{Path(arguments.out) / part}: {n} tensors\n" for part, n in counts.items()), "-"
        )
    return 0
