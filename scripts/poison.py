"""Checks, with ten seeds, whether `nanoocr finetune` notices texts that do not belong to their pictures.

python -m scripts.poison --data=tune

The packaged model reads every document of DATA once. Then the texts are poisoned in five ways and matched
with the pictures, as the command does before it trains. `refused` ends the command with exit code 11,
`flagged` is a warning on the terminal and in the report. True texts must be neither. `mended` means that
every strip got its true words anyway: lines in another order do no harm where the text comes without places.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nanoocr.commandline import parse, run
from nanoocr.document import Quad
from nanoocr.errors import DoubtfulDataError, NanoOCRError, UsageError
from nanoocr.finetune.agreement import agreement, refuse_doubtful
from nanoocr.finetune.sources import gather
from nanoocr.finetune.strips import dealt_document, read_document
from nanoocr.finetune.types import TrueDocument, TrueLine
from nanoocr.inference.assemble import StripReading
from nanoocr.inference.reader import Reader
from nanoocr.machine import choose_threads, use_threads
from scripts.common import refuse_below

Texts = list[list[str]]  # the lines of every document
Poison = Callable[[random.Random, Texts], Texts]
MOST_WRONG = 0.05  # A text counts as mended if at most this share of its strips has wrong words.
FEWEST = 4  # at least this many documents, because half of them must be two to change places


@dataclass(frozen=True)
class PoisonConfig:
    """Poisons texts and counts what is noticed."""

    data: str  # folder of documents with true texts, as scripts/dev/make_style.py makes it
    model: str = ""  # model folder; empty means the packaged model
    seeds: int = 10  # times that each poison is given, each time to other texts
    threads: int = 0  # torch threads; 0 is torch's choice

    def __post_init__(self) -> None:
        """Refuse to poison nothing."""
        refuse_below(self, seeds=1)


class UnnoticedError(NanoOCRError):
    """Poison went unnoticed, or true texts were refused: the script has found a fault."""

    exit_code = 1


def derangement(rng: random.Random, count: int) -> list[int]:
    """Numbers in an order in which none is in its own place."""
    order = list(range(count))
    while any(i == j for i, j in enumerate(order)):
        rng.shuffle(order)
    return order


def true(rng: random.Random, texts: Texts) -> Texts:
    """Leave the texts as they are."""
    return texts


def shuffled(rng: random.Random, texts: Texts) -> Texts:
    """Give every picture another one's text."""
    return [texts[i] for i in derangement(rng, len(texts))]


def half_shuffled(rng: random.Random, texts: Texts) -> Texts:
    """Give half of the pictures another one's text."""
    chosen = rng.sample(range(len(texts)), len(texts) // 2)
    moved = {chosen[i]: texts[chosen[j]] for i, j in enumerate(derangement(rng, len(chosen)))}
    return [moved.get(i, lines) for i, lines in enumerate(texts)]


def half_invented(rng: random.Random, texts: Texts) -> Texts:
    """Replace half of the texts by random words of the same lengths."""
    chosen = set(rng.sample(range(len(texts)), len(texts) // 2))
    return [[invented(rng, x) for x in lines] if i in chosen else lines for i, lines in enumerate(texts)]


def half_of_each(rng: random.Random, texts: Texts) -> Texts:
    """Swap half of the lines of every document, or invent them if there are too few to swap."""
    result = []
    for lines in texts:
        chosen = rng.sample(range(len(lines)), len(lines) // 2)
        moved = [lines[chosen[j]] for j in derangement(rng, len(chosen))] if len(chosen) > 1 else []
        new = dict(zip(chosen, moved or [invented(rng, lines[i]) for i in chosen]))
        result.append([new.get(i, line) for i, line in enumerate(lines)])
    return result


def half_of_each_invented(rng: random.Random, texts: Texts) -> Texts:
    """Replace half of the lines of every document by random letters."""
    return [[invented(rng, line) if rng.random() < 0.5 else line for line in lines] for lines in texts]


def invented(rng: random.Random, line: str) -> str:
    """A line of random words, as long as the true ones."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(c if c.isspace() else rng.choice(letters) for c in line)


POISONS: tuple[Poison, ...] = (
    true, shuffled, half_shuffled, half_invented, half_of_each, half_of_each_invented
)  # fmt: skip


def with_text(document: TrueDocument, lines: Sequence[str], places: Sequence[Quad]) -> TrueDocument:
    """The document with other lines; with `places`, each line has a box."""
    boxed = tuple(TrueLine(line, quad) for line, quad in zip(lines, places, strict=True)) if places else ()
    return replace(document, text="\n".join(lines), lines=boxed, kind="boxes" if boxed else "text")


def place_of(reading: StripReading) -> Quad:
    """The place of a strip's line on its page, from the tops of its capitals to its baseline."""
    left, right = reading.strip.used
    corners = np.array([[left, 18, 1], [right, 18, 1], [right, 50, 1], [left, 50, 1]])
    a, b, c, d = ((float(x), float(y)) for x, y in corners @ reading.strip.to_page.T)
    return (a, b, c, d)


@dataclass(frozen=True)
class Known:
    """A document, its reading, and its lines with and without places."""

    document: TrueDocument
    readings: tuple[StripReading, ...]
    lines: tuple[str, ...]
    boxed: tuple[tuple[str, Quad], ...]


def known(document: TrueDocument, readings: Sequence[StripReading]) -> Known:
    """The lines of a document. If a strip was found for a line, the line has the strip's place."""
    strips = dealt_document(document, readings).strips
    by_pixels = {id(reading.strip.image): place_of(reading) for reading in readings}
    boxed = tuple((strip.truth, by_pixels[id(strip.pixels)]) for strip in strips)
    lines = tuple(line for line in document.text.splitlines() if line.strip())
    return Known(document, tuple(readings), lines, boxed)


def noticed(found: Sequence[Known], poison: Poison, seed: int, boxed: bool) -> str:
    """The outcome: `refused`, `flagged`, `mended` or `passed`."""
    texts = [[text for text, _ in one.boxed] if boxed else list(one.lines) for one in found]
    poisoned = poison(random.Random(f"{poison.__name__} {seed}"), texts)
    cuts = []
    for one, lines in zip(found, poisoned, strict=True):
        places = [quad for _, quad in one.boxed] if boxed else []
        # Another document's text has its own number of lines; those without a place of this page go without.
        count = min(len(lines), len(places)) if boxed else len(lines)
        document = with_text(one.document, lines[:count], places[:count])
        cuts.append(dealt_document(document, one.readings))
    told = agreement(cuts, seed)
    try:
        refuse_doubtful(told)
    except DoubtfulDataError:
        return "refused"
    if told.warnings():
        return "flagged"
    true_words = [strip.truth for one in found for strip in dealt_document(one.document, one.readings).strips]
    dealt = [strip.truth for cut in cuts for strip in cut.strips]
    missing = Counter(dealt) - Counter(true_words)
    harmless = missing.total() <= MOST_WRONG * len(dealt)
    return "mended" if poisoned != texts and harmless else "passed"


def measure(config: PoisonConfig) -> dict[str, Any]:
    """Count how often each poison was refused, flagged or passed."""
    use_threads(choose_threads(config.threads or None))
    documents = gather(config.data).documents
    if len(documents) < FEWEST:
        raise UsageError(f"{config.data}: {len(documents)} documents; at least {FEWEST} can be poisoned")
    reader = Reader(config.model or None)
    lines = reader.line_reader(reader.prompt)
    found = [known(document, read_document(lines, document)) for document in documents]
    result: dict[str, Any] = {}
    for boxed in (False, True):
        for poison in POISONS:
            counted = Counter(noticed(found, poison, seed, boxed) for seed in range(config.seeds))
            result[f"{poison.__name__}, {'boxes' if boxed else 'text'}"] = dict(counted)
    return result


def main(argv: list[str] | None = None) -> None:
    """Poison, count, print a line of JSON for each poison."""
    config = parse(PoisonConfig, argv)
    result = measure(config)
    for name, counted in result.items():
        print(json.dumps({"poison": name, **counted}))
    wrong = [
        n for n, c in result.items() if (set(c) != {"passed"} if n.startswith("true") else "passed" in c)
    ]
    if wrong:
        raise UnnoticedError(f"not as it should be: {'; '.join(wrong)}")


if __name__ == "__main__":
    sys.exit(run(main))
