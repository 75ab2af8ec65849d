"""Builds the training data and the validation rows of a run from its flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from textwrap import shorten

from nanoocr.bpe import Tokenizer
from nanoocr.config import PROMPT, ModelConfig
from nanoocr.data.example import plan
from nanoocr.data.loader import DataPlan
from nanoocr.data.rows import BadRowError, Row, Turn, read_rows, row_from_synth
from nanoocr.data.source import Mixture, RowSource, SynthMix, parse_curriculum, parse_mix, rows_source
from nanoocr.data.synth import ALL_KINDS, VALIDATION_SEED, find_fonts, make_sample
from nanoocr.data.task import Task
from nanoocr.errors import PictureError, UsageError
from nanoocr.eval.reading import with_wrong_picture
from nanoocr.image_process import MODES
from nanoocr.tasks.choose import NAMES as TASK_NAMES
from nanoocr.tasks.finevision import STORED
from nanoocr.train.config import TrainConfig


def plan_data(
    config: TrainConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    make_task: Callable[[str], Task],
) -> DataPlan:
    """The training data of the run.

    Raises:
        UsageError: flags contradict each other, or data is not there.
    """
    longest = model.gpt.sequence_len
    if config.max_length > longest:
        raise UsageError(f"--max_length={config.max_length}: the model has {longest} positions, give no more")
    source = make_source(config, tokenizer, make_task)
    # Do not sort a tiny set by length: the same few rows would share every batch.
    small = config.data and not is_task(config.data) and not config.pack
    own = bool(config.tasks or is_task(config.data)) and config.on_bad_row == "skip"
    drawn = not (config.data or config.tasks)  # drawn rows may have any length
    return DataPlan(
        source=source,
        tokenizer=tokenizer,
        views=model.views,
        batch_size=config.batch_size,
        steps=config.steps,
        seed=config.seed,
        max_length=config.max_length or longest,
        micro_batch=config.micro_batch,
        turns=config.turns,
        packed=config.pack,
        max_pictures=config.max_pictures,
        window=config.batch_size if small else 0,
        skip_long=config.too_long != "fail" if config.too_long else own or drawn,
        shrink_long=config.too_long == "shrink",
        skip_bad=own,
        modes=tuple(parse_mix(config.modes, tuple(MODES), "--modes").items()) if config.modes else (),
    )


def make_source(config: TrainConfig, tokenizer: Tokenizer, make_task: Callable[[str], Task]) -> RowSource:
    """Make the source of rows: the data sets of --tasks, the file of --data, or pictures drawn live."""
    if config.data and config.tasks:
        raise UsageError("--data is one small file and --tasks are data sets: give one of the two")
    if (config.data or config.tasks) and (config.curriculum != TrainConfig.curriculum or config.text_ratio):
        raise UsageError("--curriculum and --text_ratio shape drawn rows: not with --data or --tasks")
    if config.tasks:
        return mix_tasks(config, tokenizer, make_task)
    if config.data:
        if config.mix != TrainConfig.mix:
            raise UsageError("--mix weighs drawn kinds or --tasks: not with --data")
        if is_task(config.data):
            return Mixture((("data", make_task(config.data)),), (1.0,), config.seed)
        return rows_source(read_rows(config.data), config.seed)
    # With such a seed, a run could train on the very pictures that it is measured on.
    if config.seed >= VALIDATION_SEED:
        raise UsageError(f"--seed must be below {VALIDATION_SEED}: validation draws from there on")
    return SynthMix(
        kinds=parse_mix(config.mix, tuple(ALL_KINDS)),
        fonts=find_fonts(),
        seed=config.seed,
        curriculum=parse_curriculum(config.curriculum),
        text_ratio=config.text_ratio,
    )


def mix_tasks(config: TrainConfig, tokenizer: Tokenizer, make_task: Callable[[str], Task]) -> Mixture:
    """Parse `ocr=SPEC text=SPEC` and `--mix=ocr:0.9,text:0.1` into weighted data sets, equal without --mix.

    Raises:
        UsageError: the text has another form or no word, or --mix has a name that --tasks lacks.
    """
    tasks: dict[str, Task] = {}
    for word in split_tasks(config.tasks):
        name, equals, spec = word.partition("=")
        # The = of an unnamed task belongs to its options, as in synth:card?count=50.
        is_named = bool(name and equals and spec) and not set(name) & {":", "?"}
        if not is_named or name in tasks:
            example = f', as in --tasks="own={word}"' if not is_named and word else ""
            raise UsageError(
                f"--tasks={config.tasks}: write NAME=SPEC, separated by blanks, each name once{example}"
            )
        tasks[name] = make_task(spec)
    if not tasks:
        raise UsageError(f"--tasks={config.tasks}: names no data set: write NAME=SPEC, separated by blanks")
    # The default of --mix names a synthetic kind. With --tasks it therefore means that no --mix was given.
    drawn_alike = config.mix == TrainConfig.mix and config.mix not in tasks
    weights = dict.fromkeys(tasks, 1.0) if drawn_alike else parse_mix(config.mix, tuple(tasks))
    if unused := [name for name in tasks if name not in weights]:
        raise UsageError(f"--mix={config.mix}: gives {unused[0]} of --tasks no weight")
    if config.mix_by == "tokens":
        # Rows are drawn, not tokens. A share of tokens becomes a share of rows: long rows are drawn less
        # often.
        weights = {n: weight / mean_tokens(n, tasks[n], tokenizer) for n, weight in weights.items()}
    named = tuple((name, tasks[name]) for name in weights)
    return Mixture(named, tuple(weights.values()), config.seed)


def page_prompt(source: RowSource) -> tuple[str, str]:
    """The question that the run asks about pages, and a warning where it asks several ("" where not).

    It is the prompt of the first data set that has one, or else what all rows ask, as far as the first ones
    tell. If those ask different questions, it is PROMPT.
    """
    tasks = [task for _, task in source.tasks] if isinstance(source, Mixture) else []
    prompts = (getattr(task, "prompt", "") for task in tasks)
    if given := next((prompt for prompt in prompts if prompt and prompt != STORED), ""):
        return given, ""
    asked = list(dict.fromkeys(question for task in tasks for question in first_questions(task)))
    if len(asked) < 2:
        return "".join(asked) or PROMPT, ""
    listed = " and ".join(repr(shorten(question, 60, placeholder="...")) for question in asked[:2])
    return PROMPT, (
        f"warning: the rows ask different questions about pictures, as {listed}: `nanoocr read` will ask "
        f"{PROMPT!r} where it is given no --prompt"
    )


def first_questions(task: Task) -> list[str]:
    """What the first PROBE readable rows with pictures ask; at most MAX_TRIED rows are tried."""
    # The run itself says what happens to rows that cannot be read.
    asked = (row.prompt for row in tried_rows(task) if isinstance(row, Row) and row.pictures)
    return list(islice(asked, PROBE))


def tried_rows(task: Task) -> Iterator[Row | BadRowError]:
    """The first MAX_TRIED rows, with what is wrong in the place of a row that cannot be read."""
    for i in range(min(len(task), MAX_TRIED)):
        try:
            yield task[i]
        except BadRowError as error:
            yield error


def split_tasks(text: str) -> list[str]:
    """Split --tasks into words as a shell does: `ocr="folder:my scans" text=gsm8k` are two.

    Raises:
        UsageError: a quotation mark is never closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--tasks={text}: a quotation mark is not closed") from error


PROBE = 64  # The supervised tokens of a data set, and what it asks, are told from this many rows.
MAX_TRIED = 1000  # At most this many rows are tried to find them.


def mean_tokens(name: str, task: Task, tokenizer: Tokenizer) -> float:
    """Mean supervised tokens per row, over the first PROBE readable rows; they lie in the first shard.

    Raises:
        UsageError: none of the first rows can be read; it names the data set and the last row's problem.
    """
    counts: list[int] = []
    reason = "it holds no rows"
    for tried, row in enumerate(tried_rows(task), start=1):
        if isinstance(row, BadRowError):
            reason = f"none of its first {tried} rows can be used, the last because of {row}"
            continue
        counts.append(sum(len(tokenizer.encode(turn.assistant)) + 1 for turn in row.turns))
        if len(counts) == PROBE:
            break
    if not counts:
        raise UsageError(f"--mix_by=tokens cannot weigh {name}: {reason}")
    return sum(counts) / len(counts)


def is_task(words: str) -> bool:
    """Whether --data or --eval_data names a data set as --tasks does (folder:scans), and not a file."""
    return re.split("[:?]", words)[0] in TASK_NAMES and not Path(words).exists()


def first_rows(task: Task, count: int, words: str) -> list[Row]:
    """The first usable rows of a data set, decoded. At most MAX_TRIED rows are tried.

    Raises:
        UsageError: none of them can be used; it says why the last one cannot.
    """
    rows: list[Row] = []
    reason = "it holds no rows"
    for i in range(min(len(task), MAX_TRIED)):
        try:
            rows.append(task[i].decoded())
        except (BadRowError, PictureError) as error:
            reason = str(error)
        if len(rows) == count:
            break
    if not rows:
        raise UsageError(f"--eval_data={words}: no row can be used, the last because of {reason}")
    return rows


def validation_rows(config: TrainConfig, make_task: Callable[[str], Task], prompt: str = PROMPT) -> list[Row]:
    """A fixed set of held-out rows: those of --eval_data, or the kinds of the mix in turn with other seeds.

    Drawn pages are asked `prompt`, since a question that a run never trains says nothing about it.

    A run on a file without --eval_data validates on that same file, because such a run is meant to learn its
    rows by heart (as with the ten samples).
    """
    if not config.eval_samples:
        return []
    words = config.eval_data or config.data
    if is_task(words):
        return first_rows(make_task(words), config.eval_samples, words)
    if words:
        return read_rows(words, limit=config.eval_samples)
    # With --tasks the mix names data sets, which the synthetic validation does not know.
    mix = TrainConfig.mix if config.tasks else config.mix
    kinds, fonts = list(parse_mix(mix, tuple(ALL_KINDS))), find_fonts()
    rows = []
    for i in range(config.eval_samples):
        kind = kinds[i % len(kinds)]
        row = row_from_synth(make_sample(kind, VALIDATION_SEED, i, fonts=fonts), f"{kind}/{i}")
        asks_its_own = row.prompt != PROMPT  # as about a chart
        rows.append(row if asks_its_own else replace(row, turns=(Turn(prompt, row.answer),)))
    return rows


def check_validation(rows: list[Row], data: DataPlan, sizes: ModelConfig) -> None:
    """Refuse before training any row that the first validation could not measure.

    Raises:
        UsageError: there is a single row with a picture, or a row is longer than the model's sequence.
    """
    if sum(bool(row.pictures) for row in rows) == 1:
        raise UsageError(
            "validation needs two rows, since wrong pictures are other rows': --eval_samples=0 is none"
        )
    length = sizes.gpt.sequence_len
    for i, row in enumerate(rows):
        # Planning a row computes its length without decoding the picture; it raises where the row is too
        # long.
        plan(row, data.tokenizer, data.views, length, data.mode_of(i))
    seen = [(row, data.mode_of(i)) for i, row in enumerate(rows) if row.pictures]
    # Each question is also asked about another row's picture, which may need more tokens.
    for i, (_, mode) in enumerate(seen):
        plan(with_wrong_picture([row for row, _ in seen], i), data.tokenizer, data.views, length, mode)
