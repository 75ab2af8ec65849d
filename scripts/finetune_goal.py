"""Measures what `nanoocr finetune` gains on documents that it never saw, not even as its own hold-out.

python -m scripts.dev.make_style --count=20 --seed=1 --out=tune
python -m scripts.dev.make_style --count=20 --seed=2 --out=others
python -m scripts.finetune_goal --data=tune --others=others
python -m scripts.finetune_goal --data=../shared/data/sroie_receipts --parts=18,7 --seed=1

Prints one JSON object: the CER of the others before and after with intervals, with case and without, that
of drawn lines, and the seconds that tuning took, by the clock and of processors. All that is written lies in
a temporary folder, which is deleted, unless --out names another; pictures that may only be measured leave no
model behind.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nanoocr.cli.finetune import add_finetune_flags
from nanoocr.cli.flags import Parser
from nanoocr.commandline import parse, run
from nanoocr.errors import UsageError
from nanoocr.finetune.measure import (
    Reading,
    difference,
    interval,
    mean_interval,
    read_whole,
    without_case,
    word_f1,
)
from nanoocr.finetune.plan import FinetuneConfig
from nanoocr.finetune.run import finetune
from nanoocr.finetune.sources import gather
from nanoocr.inference.reader import Reader
from nanoocr.machine import machine


@dataclass(frozen=True)
class GoalConfig:
    """Tunes on some documents and reads others."""

    data: str  # folder of documents to tune on
    others: str = ""  # folder of documents to read before and after; empty means --parts of --data
    parts: str = ""  # how many documents to tune on and to read, as 18,7; --data is split at random
    seed: int = 0  # seeds that split, and the tuning
    flags: str = ""  # more flags of `nanoocr finetune`, separated by blanks
    out: str = ""  # folder for the parts, the run and the model; empty means a temporary one

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing to read."""
        if bool(self.others) == bool(self.parts):
            raise UsageError("name --data=DIR, and either --others=DIR or --parts=N,M")


def part(config: GoalConfig, out: Path) -> tuple[Path, Path]:
    """Copy the documents of --data into two random parts: to tune on, and to read.

    Raises:
        UsageError: there are fewer documents than --parts asks for.
    """
    counts = [int(count) if count.isdecimal() else 0 for count in config.parts.split(",")]
    sources = [document.source for document in gather(config.data).documents]
    paths = [source for source in sources if isinstance(source, Path)]
    if len(counts) != 2 or min(counts) < 1 or sum(counts) > len(paths):
        raise UsageError(f"--parts={config.parts}: two numbers, as 18,7, of {len(paths)} documents at most")
    order = random.Random(config.seed).sample(paths, sum(counts))
    folders = (out / "tune", out / "others")
    for folder, chosen in zip(folders, (order[: counts[0]], order[counts[0] :])):
        folder.mkdir(parents=True, exist_ok=True)
        for path in chosen:
            for beside in path.parent.glob(f"{path.stem}.*"):
                shutil.copy(beside, folder)
    return folders


def processor_seconds() -> float:
    """Processor seconds of this process and of its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def tune_config(data: Path, out: Path, config: GoalConfig) -> FinetuneConfig:
    """Make the config as the command line would; the tuned weights are wanted whatever the verdict."""
    words = [str(data), f"--out={out / 'model'}", f"--seed={config.seed}", "--accept_worse"]
    parser = Parser()
    add_finetune_flags(parser)
    told = vars(parser.parse_args([*words, *config.flags.split()]))
    names = FinetuneConfig.__dataclass_fields__
    return FinetuneConfig(**{name: value for name, value in told.items() if name in names})


def read_all(model: Path | None, folder: Path) -> tuple[Reading, ...]:
    """Read every document of a folder with one model."""
    reader = Reader(model)
    return tuple(read_whole(reader, document) for document in gather(folder).documents)


def span(readings: Sequence[Reading]) -> dict[str, Any]:
    """CER and word F1 with their intervals."""
    return {"cer": asdict(interval(readings)), "word_f1": asdict(mean_interval(readings, word_f1))}


def measure(config: GoalConfig, out: Path) -> dict[str, Any]:
    """Split, tune, and read before and after."""
    data, others = part(config, out) if config.parts else (Path(config.data), Path(config.others))
    gather(others)  # a mistake in what is read at the end is told before the tuning, not after it
    clock, busy = time.monotonic(), processor_seconds()
    outcome = finetune(tune_config(data, out, config))
    seconds = {"clock": time.monotonic() - clock, "processors": processor_seconds() - busy}
    before, after = read_all(None, others), read_all(out / "model", others)
    told = json.loads((out / "model" / "finetune.json").read_bytes())
    return {
        **machine(),
        "seconds": {name: round(value) for name, value in seconds.items()},
        "steps": told["steps"],
        "share_of_tuned": told["share_of_tuned"],
        "letters": told["letters"],
        "documents": {**told["documents"], "others": len(before)},
        "others": {"before": span(before), "after": span(after)},
        "others_without_case": {"before": span(without_case(before)), "after": span(without_case(after))},
        "others_change": asdict(difference(before, after)),
        "share_of_errors_left": interval(after).value / max(interval(before).value, 1e-9),
        "hold_out_and_drawn": told["cer"],
        "reasons_against": list(outcome.verdict.reasons),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    config = parse(GoalConfig, argv)
    if config.out:
        print(json.dumps(measure(config, Path(config.out)), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(config, Path(folder)), indent=1))


if __name__ == "__main__":
    sys.exit(run(main))
