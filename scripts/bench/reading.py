"""Pages per second of the reader and of other engines, with the accuracy of each beside its time.

python -m scripts.bench.reading
python -m scripts.bench.reading --engines=nanoocr,nanoocr:bfloat16 --before=OLDER_CHECKOUT --threads=2

The pages are drawn here from seeds: one sheet in four densities, a receipt, and for the growth of the cost a
sheet that gets longer with its text. Every engine has a process of its own; they read the same picture in
turn, so that what else the machine does meets all of them. Numbers are the least of `--repeats`, page by
page. A shared machine makes wall time worthless: there the seconds of the processor and the ratios within the
run count. JSON on the last line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from nanoocr.commandline import parse, run
from nanoocr.data.synth import find_fonts, text
from nanoocr.data.synth.dice import Dice
from nanoocr.errors import UsageError
from nanoocr.eval.metrics import corpus_character_error_rate
from nanoocr.machine import machine
from scripts.common import refuse_below, refuse_missing

ROOT = Path(__file__).resolve().parents[2]
SEED = 2_026_112_9
SHEET = (1754, 1240)  # (height, width): A4 at 150 dots per inch
MARGIN, PITCH = 80, 1.35  # pixels of paper around the text; line spacing in sizes of the face
DENSITIES = {"sparse": 68, "loose": 40, "usual": 28, "dense": 21}  # sizes of the face in pixels
GROWTH = (1_000, 2_000, 4_000, 8_000)  # characters
FAMILIES = ("DejaVu Sans", "Liberation Serif", "DejaVu Serif", "Liberation Sans")
OLDER = "before"  # the engine of --before


@dataclass(frozen=True)
class ReadingConfig:
    """Measures reading beside other engines and an older checkout."""

    engines: str = "nanoocr,tesseract,rapidocr,ppocr_tiny"  # nanoocr:bfloat16 is the reader in that dtype
    before: str = ""  # root of an older checkout, whose reader is measured too
    pages: int = 3  # pages of each density, and receipts
    growth: bool = True  # measure the growth with the length too
    repeats: int = 3  # rounds; each one takes every engine in turn
    threads: int = 1  # threads of every engine

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        refuse_below(self, pages=1, repeats=1, threads=1)
        if self.before:
            refuse_missing("--before", Path(self.before, "nanoocr"))


@dataclass(frozen=True)
class MadePage:
    """A picture with its text, and the set that it counts in."""

    set: str
    kind: str  # what engines are told
    path: Path
    truth: str


def main(argv: list[str] | None = None) -> int:
    """Print the tables, and one line of JSON."""
    config = parse(ReadingConfig, argv)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pages = list(make_pages(Path(folder), config))
        processes = {name: stack.enter_context(started(name, config)) for name in names_of(config)}
        engines = {name: process for name, process in processes.items() if process is not None}
        if not engines:
            raise UsageError(f"--engines={config.engines}: none of them can read")
        answers = read_all(engines, pages, config.repeats)
    result = {name: table(pages, answers, name) for name in dict.fromkeys(page.set for page in pages)}
    for name, rows in result.items():
        print_table(name, rows)
    about = {**machine(), "threads": config.threads}
    print(json.dumps({**about, "growth": growth_of(result), "sets": result}))
    return 0


def names_of(config: ReadingConfig) -> list[str]:
    """The engines, the older build behind the new one."""
    names = [name.strip() for name in config.engines.split(",") if name.strip()]
    return [*names[:1], OLDER, *names[1:]] if config.before else names


# ---------------------------------------------------------------------------------------------------
# Pages


def make_pages(folder: Path, config: ReadingConfig) -> Iterator[MadePage]:
    """All pictures of the run, written into the folder."""
    for name, size in DENSITIES.items():
        for number in range(config.pages):
            yield written(folder, name, "document", number, *sheet(number, size))
    for number in range(config.pages):
        yield written(folder, "receipt", "receipt", number, *receipt(number))
    for characters in GROWTH if config.growth else ():
        for number in range(config.pages):
            drawn = sheet(number, DENSITIES["dense"], characters)
            yield written(folder, f"{characters} characters", "document", number, *drawn)


def written(folder: Path, name: str, kind: str, number: int, image: Image.Image, truth: str) -> MadePage:
    """The picture as a PNG in the folder."""
    path = folder / f"{name}_{number}.png"
    image.save(path, compress_level=1)
    return MadePage(name, kind, path, truth)


def face_of(number: int, size: int) -> ImageFont.FreeTypeFont:
    """A common face, another one for each page."""
    fonts = find_fonts()
    known = [font for font in fonts if font.family in FAMILIES] or list(fonts)
    return ImageFont.truetype(str(known[number % len(known)].path), size)


def sheet(number: int, size: int, characters: int = 0) -> tuple[Image.Image, str]:
    """A sheet full of sentences, or one as long as so many characters want; and its text."""
    dice, face, pitch = (
        Dice.for_sample("bench page", SEED, number),
        face_of(number, size),
        round(PITCH * size),
    )
    rows = (SHEET[0] - 2 * MARGIN) // pitch
    lines: list[str] = []
    while len("\n".join(lines)) < characters if characters else len(lines) < rows:
        lines.append(line_of(dice, face, SHEET[1] - 2 * MARGIN))
    height = 2 * MARGIN + len(lines) * pitch if characters else SHEET[0]
    image = Image.new("RGB", (SHEET[1], height), "white")
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + row * pitch), line, "black", face)
    return image, "\n".join(lines)


def line_of(dice: Dice, face: ImageFont.FreeTypeFont, width: float) -> str:
    """Words of sentences, and one in seven that nobody can guess, as wide as fits."""
    line = ""
    while True:
        for word in f"{text.sentence(dice)} {text.random_token(dice)}".split():
            longer = f"{line} {word}".strip()
            if face.getlength(longer) > width:
                if line:
                    return line
                continue  # wider than the sheet alone
            line = longer


def receipt(number: int) -> tuple[Image.Image, str]:
    """A narrow slip: a head, goods with prices far to the right, a date; and its text."""
    dice = Dice.for_sample("bench receipt", SEED, number)
    face, width, pitch = face_of(number, 21), 560, 29
    rows = [(text.full_name(dice), ""), (text.date(dice), text.clock_time(dice))]
    rows += [(" ".join(text.natural_words(dice, 2)), text.price(dice)) for _ in range(18 + number % 5)]
    rows += [("TOTAL", text.price(dice)), (text.code(dice), "")]
    image = Image.new("RGB", (width, pitch * (len(rows) + 3)), (244, 243, 240))
    draw = ImageDraw.Draw(image)
    for row, (left, right) in enumerate(rows):
        y = pitch * (row + 1)
        draw.text((30, y), left, (50, 50, 50), face)
        draw.text((width - 30 - face.getlength(right), y), right, (50, 50, 50), face)
    return image, "\n".join(f"{left} {right}".strip() for left, right in rows)


# ---------------------------------------------------------------------------------------------------
# Engines


@contextmanager
def started(name: str, config: ReadingConfig) -> Iterator[subprocess.Popen[str] | None]:
    """The engine's process, ready to read; None, and a word on stderr, where it cannot be started."""
    root = Path(config.before).resolve() if name == OLDER else ROOT
    command = [sys.executable, str(ROOT / "scripts/bench/reading_worker.py")]
    command += ["nanoocr" if name == OLDER else name, str(config.threads)]
    process = subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout and process.stderr
    try:
        if process.stdout.readline():
            yield process
        else:
            reason = (process.stderr.read().strip().splitlines() or ["no reason given"])[-1]
            print(f"{name} is left out: {reason}", file=sys.stderr)
            yield None
    finally:
        process.stdin.close()
        process.wait()


def read_all(
    engines: Mapping[str, subprocess.Popen[str]], pages: Sequence[MadePage], repeats: int
) -> dict[str, list[dict[str, Any]]]:
    """Every engine's answer to every page, with the least seconds of all repeats."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
    for process in engines.values():
        ask(process, pages[0])  # the first page pays for what is loaded late
    for number, page in enumerate(pages):
        print(f"page {number + 1} of {len(pages)}: {page.path.stem}", file=sys.stderr)
        rounds = [{name: ask(process, page) for name, process in engines.items()} for _ in range(repeats)]
        for name in engines:
            best = min((found[name] for found in rounds), key=lambda answer: answer["processor"])
            answers[name].append({**best, "wall": min(found[name]["wall"] for found in rounds)})
    return answers


def ask(process: subprocess.Popen[str], page: MadePage) -> dict[str, Any]:
    """What an engine answers about a page.

    Raises:
        UsageError: it has ended.
    """
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(f"{page.path}\t{page.kind}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        reason = (process.stderr.read().strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"an engine ended at {page.path.name}: {reason}")
    return dict(json.loads(line))


# ---------------------------------------------------------------------------------------------------
# Tables


def table(
    pages: Sequence[MadePage], answers: Mapping[str, Sequence[dict[str, Any]]], name: str
) -> dict[str, dict[str, Any]]:
    """Engine -> its numbers on the pages of one set; `ratio` is processor time over the first engine's."""
    own = [number for number, page in enumerate(pages) if page.set == name]
    characters = sum(len(pages[i].truth) for i in own)
    rows: dict[str, dict[str, Any]] = {}
    for engine, of_pages in answers.items():
        mine = [of_pages[i] for i in own]
        processor = sum(one["processor"] for one in mine)
        stages = {stage: sum(one["stages"].get(stage, 0.0) for one in mine) for stage in mine[0]["stages"]}
        if stages:
            stages["rest"] = processor - sum(stages.values())
        rows[engine] = {
            "characters": characters / len(own),
            "pages_per_second": len(own) / sum(one["wall"] for one in mine),
            "processor_per_page": processor / len(own),
            "characters_per_core_second": characters / processor,
            "cer": corpus_character_error_rate([one["text"] for one in mine], [pages[i].truth for i in own]),
            "peak_bytes": max(one["peak_bytes"] for one in mine),
            "stages": {stage: seconds / len(own) for stage, seconds in stages.items()},
        }
    first = next(iter(rows.values()))["processor_per_page"]
    return {engine: {**row, "ratio": row["processor_per_page"] / first} for engine, row in rows.items()}


def growth_of(result: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Engine -> seconds of the processor per 1,000 characters at each length."""
    lengths = [f"{characters} characters" for characters in GROWTH]
    rows = {length: result[length] for length in lengths if length in result}
    engines = next(iter(rows.values()), {})
    return {
        engine: {length: 1e3 / row[engine]["characters_per_core_second"] for length, row in rows.items()}
        for engine in engines
    }


def print_table(name: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One set for people, in Markdown."""
    print(f"\n{name}: {next(iter(rows.values()))['characters']:.0f} characters a page\n")
    print("| engine | pages/s | CPU s/page | of the first | characters/s and core | CER | peak MB | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for engine, row in rows.items():
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in row["stages"].items())
        print(
            f"| {engine} | {row['pages_per_second']:.2f} | {row['processor_per_page']:.2f} "
            f"| {row['ratio']:.2f} "
            f"| {row['characters_per_core_second']:.0f} | {row['cer']:.2%} | {row['peak_bytes'] / 1e6:.0f} "
            f"| {stages} |"
        )


if __name__ == "__main__":
    sys.exit(run(main))
