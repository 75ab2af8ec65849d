"""Shows a data set before training on it: rows, token counts, skipped rows with reasons, a contact sheet.

python -m scripts.data_look --task=synth:all --count=8 --out=sheet.png
python -m scripts.data_look --task='finevision:chartqa?shards=1' --preset=d20 --mode=base --scan=200

A task is NAME:WHAT?key=value&key=value; --task=help lists them. The first rows are shown, unless start, stop
and step select others.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from nanoocr import tasks
from nanoocr.bpe import Tokenizer
from nanoocr.commandline import parse, run
from nanoocr.config import ModelConfig, preset
from nanoocr.data.example import plan
from nanoocr.data.rows import BadRowError, Row
from nanoocr.data.task import Task
from nanoocr.errors import OutputError, PictureError, UsageError
from nanoocr.image_process import Mode
from nanoocr.image_process import mode as find_mode
from nanoocr.inference.reader import default_model_folder
from nanoocr.progress import track
from nanoocr.tasks.choose import make_task
from nanoocr.tasks.folder import SHOWN
from scripts.contact_sheet import Entry, draw_sheet

SHORT = 200  # characters of a text that are printed
EXAMPLES = 3  # row names to print for each reason


@dataclass(frozen=True)
class DataLookConfig:
    """Prints rows of a data set with their token counts, and the rows that cannot be used."""

    task: str  # NAME:WHAT?key=value, as folder:scans; help lists them
    count: int = 8  # rows to show
    scan: int = 0  # rows to count; 0 means the ones shown
    preset: str = "nano"  # count tokens for this preset's views and sequence length
    mode: str = ""  # resolution mode, as base; empty means the best of the preset's views
    max_length: int = 0  # longest row in tokens; 0 means the preset's sequence
    tokenizer: str = ""  # tokenizer file; empty means that of the packaged model
    out: str = ""  # PNG file for a contact sheet; empty for none

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.count < 1 or self.scan < 0 or self.max_length < 0:
            raise UsageError("--count must be above 0, --scan and --max_length must not be negative")


@dataclass(frozen=True)
class Counts:
    """Tokens of one row."""

    vision: int  # tokens of all pictures
    prompt: int  # everything else that is not learnt: questions and the marks of the messages
    supervised: int  # answers and their end tokens

    @property
    def total(self) -> int:
        """All tokens of the row."""
        return self.vision + self.prompt + self.supervised


@dataclass(frozen=True)
class Look:
    """The tokenizer and sizes by which rows become tokens."""

    tokenizer: Tokenizer
    sizes: ModelConfig
    mode: Mode | None
    max_length: int

    def count(self, row: Row) -> Counts:
        """Count a row's tokens as in training: pictures first, then the turns."""
        ids, mask = plan(row, self.tokenizer, self.sizes.views, sys.maxsize, self.mode)[1:3]
        vision = ids.count(self.tokenizer.image_id)
        return Counts(vision, len(ids) - sum(mask) - vision, sum(mask))


def look(config: DataLookConfig) -> Look:
    """Load the tokenizer and the sizes that the flags name."""
    path = Path(config.tokenizer) if config.tokenizer else default_model_folder() / "tokenizer.json"
    tokenizer = Tokenizer.from_file(path)
    mode = find_mode(config.mode) if config.mode else None
    sizes = preset(config.preset, tokenizer.vocab_size)
    return Look(tokenizer, sizes, mode, config.max_length or sizes.gpt.sequence_len)


@dataclass
class Findings:
    """The result of scanning a data set."""

    entries: list[Entry]
    counts: list[Counts]
    skipped: dict[str, list[str]]  # reason -> messages of rows that cannot be used


def scan(task: Task, looking: Look, shown: int, scanned: int) -> Findings:
    """Go through the first rows of a data set, and print those that are to be shown."""
    found = Findings([], [], {})
    positions = range(min(len(task), max(shown, scanned)))
    for i in positions if scanned <= shown else track(positions, len(positions), "rows"):
        try:
            row = task[i].decoded()
            counts = looking.count(row)
            if counts.total > looking.max_length:
                raise BadRowError(f"{row.id}: {counts.total} tokens, {looking.max_length} are allowed")
        except (BadRowError, PictureError) as error:
            found.skipped.setdefault(reason(str(error)), []).append(str(error))
            continue
        found.counts.append(counts)
        if len(found.entries) < shown:
            found.entries.append(entry_of(row, counts))
            print_row(row, counts)
    return found


def reason(message: str) -> str:
    """The message without the row's name, numbers and quotations, so that equal faults have equal reasons."""
    row = re.search(r"\b(?:row|line) \d+(?:, picture \d+)?:? ", message)
    text = message[row.end() :] if row else message.partition(": ")[2] or message
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
    return re.sub(r"\d+(?:[.,]\d+)*", "N", text)


def entry_of(row: Row, counts: Counts) -> Entry:
    """Make the row's entry for the contact sheet."""
    pictures = row.images()
    heading = f"{row.id} ({row.source}), pictures: {len(pictures)}, tokens: {counts.total}"
    return Entry(heading, pictures, [(turn.user, turn.assistant) for turn in row.turns])


def print_row(row: Row, counts: Counts) -> None:
    """Print a row's id, source, pictures, texts and tokens."""
    sizes = ", ".join(f"{image.width} x {image.height}" for image in row.images()) or "none"
    print(f"{row.id}\n  source {row.source}; pictures {sizes}")
    for turn in row.turns:
        print(f"  asked  {shortened(turn.user)}\n  answer {shortened(turn.assistant)}")
    print(f"  tokens {counts.vision} vision, {counts.prompt} prompt, {counts.supervised} supervised")


def shortened(text: str) -> str:
    """The text on one line; the middle of a long text is left out."""
    half = SHORT // 2
    return repr(text) if len(text) <= SHORT else f"{text[:half]!r} ... {text[-half:]!r} ({len(text)})"


def print_findings(task: Task, found: Findings, looking: Look) -> None:
    """Print totals, token statistics, and the skipped rows."""
    skipped = sum(map(len, found.skipped.values()))
    seen = len(found.counts) + skipped
    print(f"\n{len(task):,} rows; {seen} looked at, {len(found.counts)} usable, {skipped} skipped")
    if found.counts:
        print(f"tokens a row ({looking.sizes.name}, a vocabulary of {looking.tokenizer.vocab_size:,}):")
        for name in ("vision", "prompt", "supervised", "total"):
            values = [getattr(counts, name) for counts in found.counts]
            print(f"  {name:<10} mean {fmean(values):7.1f}  median {median(values):7.1f}  most {max(values)}")
    for why, messages in sorted(found.skipped.items(), key=lambda item: -len(item[1])):
        print(f"skipped {len(messages)}: {why}")
        for message in messages[:EXAMPLES]:
            print(f"  {message}")
    if task.missing:
        print(f"left out {len(task.missing)} files without a partner:")
        for message in task.missing[:SHOWN]:
            print(f"  {message}")


def write_sheet(entries: Sequence[Entry], path: str) -> None:
    """Write the contact sheet as a PNG.

    Raises:
        OutputError: the place is not writable.
    """
    try:
        draw_sheet(entries).save(path, "PNG")
    except OSError as error:
        raise OutputError(f"--out={path} cannot be written ({error.strerror or error})") from error
    print(f"{len(entries)} rows are on {path}", file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Print rows and findings, and draw the sheet."""
    config = parse(DataLookConfig, argv)
    if config.task == "help":
        print(tasks.__doc__)
        return
    looking = look(config)
    task = make_task(config.task)
    found = scan(task, looking, config.count, config.scan)
    print_findings(task, found, looking)
    if config.out and found.entries:
        write_sheet(found.entries, config.out)
    if not found.counts:
        raise UsageError(f"--task={config.task}: none of the rows that were looked at can be used")


if __name__ == "__main__":
    sys.exit(run(main))
