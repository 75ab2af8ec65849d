"""Score a model, a peer or somebody's predictions on a set, with the control that shows whether it looks.

python -m scripts.vision_eval --out=out/synthetic
python -m scripts.vision_eval --model=tesseract --task=folder --data=assets/samples --out=out/tesseract
python -m scripts.vision_eval --predictions=DIR --task=manifest --data=DIR --out=out/theirs

Every question is asked three times: about its own picture, another sample's, and a blank one (the grounding
control, nanoocr/eval/grounding.py). Answers lie in --out as soon as they are there, so an interrupted run
goes on where it was. The last line on stdout is JSON; results.json in --out has every page's scores too.
"""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from nanoocr.commandline import parse, run
from nanoocr.errors import PictureError, UsageError
from nanoocr.eval.answering import Answerer, answer_all, model_answers, peer_answers
from nanoocr.eval.grounding import CONDITIONS, asks_of
from nanoocr.eval.peers import PEERS, make_peer
from nanoocr.eval.samples import PROMPT, EvalSample, file_stem
from nanoocr.eval.store import Found, Store, named, read_predictions
from nanoocr.eval.summary import ALL, PageResult, by_group, score_pages, summarise, worst_and_median
from nanoocr.eval.tasks import EvalTask, Selection, check_extras, find_task, main_metric
from nanoocr.files import read_manifest, write_file
from nanoocr.inference.engine import MAX_BATCH
from nanoocr.inference.reader import Reader, default_model_folder
from nanoocr.machine import machine, use_threads
from nanoocr.model.folder import WEIGHTS, model_folder
from scripts.common import result_console

RESULTS = "results.json"
PICTURES = "pictures"
THUMBNAIL = 512  # pixels of the longer side of a picture that is kept to be shown
CLIP = 160  # characters of a text on the console


@dataclass(frozen=True)
class VisionEvalConfig:
    """Scores what a model, a peer or somebody else read."""

    out: str  # folder for answers, pictures and results.json; a run that was interrupted goes on in it
    model: str = "shipped"  # model folder, training step, run folder, shipped, tesseract or rapidocr
    task: str = "synthetic"  # synthetic (held out), folder, manifest, fox, omnidocbench, omnidocbench_v1.0
    data: str = ""  # folder or file of the task
    predictions: str = ""  # folder of answers to score instead of reading: <id>.md or <id>.txt
    grounding: bool = True  # read every picture's question also with a wrong and a blank picture
    questions: bool = True  # also samples that ask something; a peer only reads, so it gets none
    kinds: str = ""  # only these kinds of samples, as card,receipt; the tasks of Fox
    per_group: int = 0  # most samples of a line of the table; 0 is all, synthetic 100
    prompt: str = PROMPT  # what is asked about the pictures of a folder or manifest
    mode: str = ""  # resolution mode, as base; empty is the best of the model's views
    max_tokens: int = 0  # most tokens of one answer; 0 is what fits the model
    max_batch: int = MAX_BATCH  # pages that a model decodes together
    device: str = "cpu"  # cpu, cuda, mps
    threads: int = 0  # threads of torch or the peer; 0 is torch's choice, and one for a peer

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        if min(self.per_group, self.max_tokens, self.threads) < 0 or self.max_batch < 1:
            raise UsageError(
                "--per_group, --max_tokens and --threads must not be negative, --max_batch at least 1"
            )


def evaluate(config: VisionEvalConfig, command: str = "") -> dict[str, Any]:
    """Answer, score and write everything; the results as plain data, with the command for the record."""
    task = find_task(config.task)
    only_reads = config.model in PEERS and not config.predictions
    kinds, questions = split_names(config.kinds), config.questions and not only_reads
    chosen = task.load(Selection(config.data, kinds, config.per_group, config.prompt, questions))
    check_extras(task, chosen.samples)
    if config.predictions:
        about, found = (
            {"predictions": config.predictions},
            read_predictions(config.predictions, chosen.samples),
        )
    else:
        about, answer = make_answerer(config)
        found = read_all(config, chosen.samples, about, answer)
    pages = score_pages(chosen.samples, found.predictions, task)
    results = {
        "task": config.task,
        "data": config.data,
        "model": config.predictions or config.model,
        "about": about,
        "machine": machine(),
        "command": command,
        "left_out": chosen.left_out,
        "missing": found.missing,
        "unknown": found.unknown,
        "notes": found.notes if questions else (*found.notes, "questions about pictures were not asked"),
        "groups": {name: summarise(group) for name, group in by_group(pages).items()},
        "set_scores": set_scores(task, chosen.samples, found),
    }
    shown = [
        entry for name, group in by_group(pages).items() for entry in show(name, group, Path(config.out))
    ]
    everything = {**results, "shown": shown, "pages": [page_facts(page) for page in pages]}
    write_file(Path(config.out) / RESULTS, json.dumps(everything, indent=1, ensure_ascii=False).encode())
    return {**results, "shown": shown}


def split_names(text: str) -> tuple[str, ...]:
    """The names in a list such as card,receipt."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def read_all(
    config: VisionEvalConfig, samples: Sequence[EvalSample], about: Mapping[str, Any], answer: Answerer
) -> Found:
    """Answer every question that has no answer on disk."""
    asks = asks_of(samples, CONDITIONS if config.grounding else CONDITIONS[:1])
    predictions = answer_all(asks, Store(config.out, about), answer, config.model)
    return Found(predictions, (), (), ())


def make_answerer(config: VisionEvalConfig) -> tuple[dict[str, Any], Answerer]:
    """What answers, as plain data that change when its answers would, and the function that does."""
    if config.model in PEERS:
        peer = make_peer(config.model, config.threads or 1)
        return {"engine": peer.name, **peer.about()}, functools.partial(peer_answers, peer)
    reader, about = load_reader(config)
    return about, functools.partial(model_answers, reader, config.max_tokens or None)


def load_reader(config: VisionEvalConfig) -> tuple[Reader, dict[str, Any]]:
    """The model that the flags name, and what it is."""
    use_threads(config.threads)
    folder = default_model_folder() if config.model == "shipped" else model_folder(config.model)
    reader = Reader(folder, device=config.device, max_batch=config.max_batch, mode=config.mode or None)
    return reader, {
        "engine": "nanoocr",
        "weights": read_manifest(folder)["files"][WEIGHTS]["sha256"][:16],
        "weights_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "preset": reader.model.config.name,
        "mode": config.mode,
        "max_tokens": config.max_tokens,
        "dtype": str(reader.dtype).removeprefix("torch."),
    }


def set_scores(task: EvalTask, samples: Sequence[EvalSample], found: Found) -> dict[str, dict[str, float]]:
    """The scores of a whole set by the picture that was shown; {} where the task has none."""
    if task.score_set is None:
        return {}
    return {
        condition: task.score_set(samples, {s.id: given[s.id].text if s.id in given else "" for s in samples})
        for condition, given in found.predictions.items()
    }


def page_facts(page: PageResult) -> dict[str, Any]:
    """One page without its texts, which lie beside the results."""
    right = page.right
    return {
        "id": page.sample.id,
        "kind": page.sample.kind,
        "groups": page.sample.groups,
        "status": right.status,
        "error": right.error,
        "seconds": right.seconds,
        "vision_tokens": right.vision_tokens,
        "text_tokens": right.text_tokens,
        "scores": page.scores,
    }


def show(group: str, pages: Sequence[PageResult], out: Path) -> list[dict[str, Any]]:
    """The worst and the median page of a group, with a small copy of the picture in `out`."""
    return [
        {
            "group": group,
            "which": which,
            "id": page.sample.id,
            "prompt": page.sample.prompt,
            "picture": save_thumbnail(page.sample, out),
            "truth": page.sample.truth,
            "texts": {condition: given.text for condition, given in page.predictions.items()},
            "status": page.right.status,
            "error": page.right.error,
            "scores": page.scores["right"],
        }
        for which, page in worst_and_median(pages)
    ]


def save_thumbnail(sample: EvalSample, out: Path) -> str | None:
    """Where a small PNG of the picture now lies, relative to `out`; None if the picture cannot be read."""
    name = Path(PICTURES, file_stem(sample.id).replace("/", "_") + ".png")
    try:
        image = sample.open().copy()
    except PictureError:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    image.save(out / name, "PNG")
    return str(name)


# ---------------------------------------------------------------------------------------------------
# For people


def percent(share: float | None) -> str:
    """A share for a table."""
    return "-" if share is None else f"{share:.1%}"


def group_row(summary: Mapping[str, Any]) -> dict[str, str]:
    """The headline numbers of a line of the table, by the title of their column."""
    scores = summary["scores"]
    metric = main_metric(scores)
    gap = scores[metric].get("gap_wrong")
    cer = scores.get("cer")
    return {
        "pages": str(summary["pages"]),
        "CER": percent(summary["corpus_cer"]),
        "median": percent(cer["median"] if cer else None),
        ">50 %": percent(summary["catastrophic"]),
        "perfect": percent(summary["perfect"]),
        "score": f"{scores[metric]['mean']:.3f}",
        "95 %": f"{scores[metric]['low']:.3f}-{scores[metric]['high']:.3f}",
        "gap": "-" if gap is None else f"{gap:.3f}",
        "loops": percent(summary["repetition"]),
        "cut": percent(summary["truncated"]),
        "failed": str(summary["errors"] + summary["missing"]),
        "distinct": str(summary["distinct"]["right"]),
    }


SCORE_NOTE = """\
CER: errors / characters of the set; median: of the pages' CER; >50 %: pages with a CER above that;
score: F1 of the words without markup (questions: relaxed accuracy), with its interval; gap: score minus the
score with another sample's picture, 0 is an engine that does not look; loops, cut: pages that went in circles
or hit the token limit; failed: errors and missing answers, scored as empty; distinct: different answers."""


def group_table(results: Mapping[str, Any]) -> Table:
    """One line per group."""
    title = f"{results['model']} on {results['task']} {results['data']}".strip()
    table = Table("set", title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    rows = {name: group_row(summary) for name, summary in results["groups"].items()}
    for title in next(iter(rows.values())):
        table.add_column(title, justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(name, *row.values())
    return table


def metric_table(summary: Mapping[str, Any]) -> Table:
    """Every metric over all pages."""
    table = Table("metric", title="All pages", box=box.SIMPLE_HEAD)
    names = ("mean", "low", "high", "median", "wrong", "blank", "gap_wrong", "gap_blank")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for metric, numbers in summary["scores"].items():
        table.add_row(metric, *(f"{numbers[name]:.3f}" if name in numbers else "-" for name in names))
    return table


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Tables, what was left out, and the samples to look at."""
    console.print(group_table(results))
    console.print(SCORE_NOTE)
    console.print(metric_table(results["groups"][ALL]))
    for condition, scores in results["set_scores"].items():
        listed = ", ".join(f"{name} {value:.6f}" for name, value in scores.items())
        console.print(f"whole set, {condition} picture: {listed}")
    for name in ("left_out", "missing", "unknown"):
        if results[name]:
            console.print(f"{name.replace('_', ' ')}: {len(results[name])} ({named(results[name])})")
    for note in results["notes"]:
        console.print(note)
    seen: set[str] = set()
    for entry in results["shown"]:
        if entry["id"] in seen:
            continue
        seen.add(entry["id"])
        console.print(f"{entry['group']}, {entry['which']}: {entry['id']} ({entry['picture']})")
        for title, text in {"truth": entry["truth"], **entry["texts"]}.items():
            console.print(f"  {title:<6}{text[:CLIP]!r}{' ...' if len(text) > CLIP else ''}")


def command_line(module: str, argv: Sequence[str] | None) -> str:
    """The command that was typed, for the record."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])


def main(argv: list[str] | None = None) -> None:
    """Evaluate, print, and end in one line of JSON."""
    config = parse(VisionEvalConfig, argv)
    results = evaluate(config, command_line("scripts.vision_eval", argv))
    print_results(results, result_console())
    print(json.dumps({key: value for key, value in results.items() if key != "shown"}))


if __name__ == "__main__":
    sys.exit(run(main))
