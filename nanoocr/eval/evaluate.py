"""One evaluation, from flags to results.json: load the samples, answer every question, score, write.

Every question is asked three times: about its own picture, another sample's, and a blank one (the grounding
control, nanoocr/eval/grounding.py). Answers are written to `out` at once, so an interrupted run continues
where it was.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from nanoocr.config import PROMPT
from nanoocr.errors import PictureError, UsageError
from nanoocr.eval.answering import Answerer, answer_all, model_answers, peer_answers
from nanoocr.eval.catalogue import Benchmark, Selection, check_extras, find_benchmark
from nanoocr.eval.grounding import CONDITIONS, asks_of
from nanoocr.eval.metrics import worst_and_median
from nanoocr.eval.peers import PEERS, make_peer
from nanoocr.eval.samples import EvalSample, SampleSet, file_stem
from nanoocr.eval.store import Found, Store, find_predictions
from nanoocr.eval.summary import PageResult, by_group, score_pages, summarise
from nanoocr.files import read_manifest, write_file
from nanoocr.inference.engine import MAX_BATCH
from nanoocr.inference.reader import Reader, default_model_folder
from nanoocr.machine import machine, use_threads
from nanoocr.model.folder import WEIGHTS, load_prompt, model_folder

RESULTS = "results.json"
PICTURES = "pictures"
THUMBNAIL = 512  # longer side, in pixels, of the small copy of a picture for the report


@dataclass(frozen=True)
class VisionEvalConfig:
    """Scores the answers of a model, a peer or somebody else."""

    # Commands that were written down before a benchmark was called a benchmark go on working.
    RENAMED: ClassVar[Mapping[str, str]] = {"task": "benchmark"}

    out: str  # folder for answers, pictures and results.json; an interrupted run continues in it
    model: str = "shipped"  # model folder, training step, run folder, shipped, tesseract or rapidocr
    benchmark: str = "synthetic"  # the benchmark; a wrong name lists all of them
    data: str = ""  # folder or file of the benchmark
    predictions: str = ""  # folder of answers to score instead of reading: <id>.md or <id>.txt
    grounding: bool = True  # ask every question also about a wrong and a blank picture
    questions: bool = True  # include samples that ask something; a peer only reads, so it gets none
    kinds: str = ""  # only samples of these kinds, as card,receipt; for Fox, its sub-tasks
    per_group: int = 0  # most samples of a group; 0 is all, and 100 for synthetic
    prompt: str = ""  # the question about pages; empty means the one that the model was trained with
    mode: str = ""  # resolution mode, as base; empty means the best of the model's views
    max_tokens: int = 0  # longest answer in tokens; 0 means what fits the model
    max_batch: int = MAX_BATCH  # pages that a model decodes together
    device: str = "cpu"  # cpu, cuda, mps
    threads: int = 0  # threads of torch or the peer; 0 is torch's choice, and one for a peer

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if min(self.per_group, self.max_tokens, self.threads) < 0 or self.max_batch < 1:
            raise UsageError(
                "--per_group, --max_tokens and --threads must not be negative, --max_batch at least 1"
            )
        reader = "--predictions" if self.predictions else self.model if self.model in PEERS else ""
        for flag in ("mode", "max_tokens") if reader else ():
            if getattr(self, flag):
                raise UsageError(f"--{flag} is for models of this project, not for {reader}: leave it out")


def evaluate(config: VisionEvalConfig, command: str = "") -> dict[str, Any]:
    """Answer, score and write everything. Returns the results as plain data, with the command."""
    benchmark = find_benchmark(config.benchmark)
    only_reads = config.model in PEERS and not config.predictions
    kinds, questions = split_names(config.kinds), config.questions and not only_reads
    prompt = prompt_of(config)
    loaded = benchmark.load(Selection(config.data, kinds, config.per_group, prompt, questions))
    sample_set = asking(loaded, prompt)
    if config.prompt and not any(sample.prompt == prompt for sample in sample_set.samples):
        raise UsageError("--prompt: the samples of this benchmark have questions of their own; leave it out")
    check_extras(benchmark, sample_set.samples)
    about, found = answers_to(config, sample_set.samples)
    pages = score_pages(sample_set.samples, found.predictions, benchmark)
    results = {
        "benchmark": config.benchmark,
        "data": config.data,
        "model": config.predictions or config.model,
        "about": about,
        "machine": machine(),
        "command": command,
        "left_out": sample_set.left_out,
        "missing": found.missing,
        "unknown": found.unknown,
        "notes": found.notes if questions else (*found.notes, "questions about pictures were not asked"),
        "groups": {name: summarise(group) for name, group in by_group(pages).items()},
        "set_scores": set_scores(benchmark, sample_set.samples, found),
    }
    shown = [
        entry for name, group in by_group(pages).items() for entry in show(name, group, Path(config.out))
    ]
    everything = {**results, "shown": shown, "pages": [page_facts(page) for page in pages]}
    write_file(Path(config.out) / RESULTS, json.dumps(everything, indent=1, ensure_ascii=False).encode())
    return {**results, "shown": shown}


def prompt_of(config: VisionEvalConfig) -> str:
    """The question about pages: --prompt, or the one in the model's folder."""
    if config.prompt or config.predictions or config.model in PEERS:
        return config.prompt or PROMPT
    return load_prompt(default_model_folder() if config.model == "shipped" else model_folder(config.model))


def asking(sample_set: SampleSet, prompt: str) -> SampleSet:
    """The set with this question about every picture that is to be read."""

    def asked(sample: EvalSample) -> EvalSample:
        """The sample, unless it has a question of its own."""
        return replace(sample, prompt=prompt) if sample.prompt == PROMPT else sample

    return replace(sample_set, samples=tuple(map(asked, sample_set.samples)))


def split_names(text: str) -> tuple[str, ...]:
    """The names in a list such as card,receipt."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def answers_to(config: VisionEvalConfig, samples: Sequence[EvalSample]) -> tuple[dict[str, Any], Found]:
    """Who answers, as plain data, and the answers: those of somebody else, or read where they are missing.

    Raises:
        UsageError: somebody else's folder is missing, or holds no answer to any sample.
    """
    if not config.predictions:
        about, answer = make_answerer(config)
        return about, read_all(config, samples, about, answer)
    found = find_predictions(config.predictions, samples)
    if not any(found.predictions.values()):
        raise UsageError(
            f"--predictions={config.predictions}: has no answer to any sample, as {found.missing[0]}.md"
        )
    return {"predictions": config.predictions}, found


def read_all(
    config: VisionEvalConfig, samples: Sequence[EvalSample], about: Mapping[str, Any], answer: Answerer
) -> Found:
    """Answer every question that has no answer on disk."""
    asks = asks_of(samples, CONDITIONS if config.grounding else CONDITIONS[:1])
    predictions = answer_all(asks, Store(config.out, about), answer, config.model)
    return Found(predictions, (), (), ())


def make_answerer(config: VisionEvalConfig) -> tuple[dict[str, Any], Answerer]:
    """Describe the engine as plain data (they change when its answers would), and make its function."""
    if config.model in PEERS:
        peer = make_peer(config.model, config.threads or 1)
        return {"engine": peer.name, **peer.about()}, functools.partial(peer_answers, peer)
    reader, about = load_reader(config)
    return about, functools.partial(model_answers, reader, config.max_tokens or None)


def load_reader(config: VisionEvalConfig) -> tuple[Reader, dict[str, Any]]:
    """Load the model that the flags name, and describe it."""
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


def set_scores(
    benchmark: Benchmark, samples: Sequence[EvalSample], found: Found
) -> dict[str, dict[str, float]]:
    """The scores of a whole set for each shown picture; {} where the benchmark has none."""
    if benchmark.score_set is None:
        return {}
    return {
        condition: benchmark.score_set(
            samples, {s.id: given[s.id].text if s.id in given else "" for s in samples}
        )
        for condition, given in found.predictions.items()
    }


def page_facts(page: PageResult) -> dict[str, Any]:
    """The facts about one page, without its texts, which lie beside the results."""
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
    """The worst and the median page of a group, with small copies of their pictures in `out`."""
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
        for which, page in worst_and_median(pages, badness=lambda page: (page.badness, page.sample.id))
    ]


def save_thumbnail(sample: EvalSample, out: Path) -> str | None:
    """Save a small PNG of the picture; returns its path relative to `out`, None if it cannot be read."""
    name = Path(PICTURES, file_stem(sample.id).replace("/", "_") + ".png")
    try:
        image = sample.open().copy()
    except PictureError:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    image.save(out / name, "PNG")
    return str(name)
