"""The compression curve: how good is reading at r times as many text tokens as vision tokens?

This file draws pages of controlled length: black on white, in the largest letters that fit, so that more text
means smaller letters, as on real pages. The paper's curve (DeepSeek-OCR, arXiv 2510.18234, table 2) is shown
beside ours. It used the Fox pages, other fonts and another tokenizer, so compare shapes and not points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from nanoocr.config import PROMPT
from nanoocr.data.synth import VALIDATION_SEED, text
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.length import SMALLEST, draw_page, words_of_length
from nanoocr.errors import UsageError
from nanoocr.eval.samples import EvalSample
from nanoocr.eval.summary import PageResult, summarise
from nanoocr.pictures import Size

CURVE = "curve.json"  # the file that holds the points
NATURAL, RANDOM = "natural text", "random text"
# A phase ends where the mean CER of a bucket rises above this. Beyond the last phase reading has collapsed.
PHASES = {"stable": 0.1, "unstable": 0.5}
COLLAPSED = "collapsed"
_READ = ("pages", "ratio", "text tokens", "precision", "95 %", "gap", "CER", "median", ">50 %", "cut")
COLUMNS = ("phase", "characters/token", *_READ)


class PaperPoint(NamedTuple):
    """One row of the paper's table 2."""

    text_tokens: tuple[int, int]  # tokens of the truth: from, to
    pages: int
    precision: float  # from 0 to 1
    ratio: float  # text tokens / vision tokens


def _paper(precisions: Sequence[float], ratios: Sequence[float]) -> tuple[PaperPoint, ...]:
    pages = (7, 28, 28, 14, 11, 8, 4)
    starts = range(600, 1300, 100)
    return tuple(
        PaperPoint((start, start + 100), count, precision / 100, ratio)
        for start, count, precision, ratio in zip(starts, pages, precisions, ratios, strict=True)
    )


# Keyed by vision tokens as the paper counts them (grid only): modes Tiny and Small on Fox, English.
PAPER_CURVES = {
    64: _paper((96.5, 93.8, 83.8, 85.9, 79.3, 76.4, 59.1), (10.5, 11.8, 13.2, 15.1, 16.5, 17.7, 19.7)),
    100: _paper((98.5, 97.3, 96.8, 96.8, 91.5, 89.8, 87.1), (6.7, 7.5, 8.5, 9.7, 10.6, 11.3, 12.6)),
}


# ---------------------------------------------------------------------------------------------------
# Pages of controlled length


class Level(NamedTuple):
    """Pages of one length in one picture size."""

    size: Size  # height, width in pixels
    tokens: int  # wanted text tokens

    @property
    def name(self) -> str:
        """The name of the curve that the level belongs to."""
        return f"{self.size[0]}x{self.size[1]}"


def length_pages(
    level: Level, count: int, fonts: Sequence[Font], count_tokens: Callable[[str], int]
) -> Iterator[EvalSample | str]:
    """Draw `count` held-out pages of about `level.tokens` tokens, alternating natural and random text.

    If the text does not fit even in the smallest letters, a sentence that says so takes the page's place.
    """
    for index in range(count):
        dice = Dice.for_sample(f"length {level.name} {level.tokens}", VALIDATION_SEED, index)
        name = f"{level.name}/{level.tokens:05d}/{index}"
        source, kind = (text.random_token, RANDOM) if index % 2 else (text.sentence, NATURAL)
        words = words_of_length(dice, source, level.tokens, count_tokens)
        drawn = draw_page(dice, dice.pick(fonts), level.size, words)
        if drawn is None:
            yield f"{name}: {level.tokens} tokens do not fit in letters of {SMALLEST} pixels"
            continue
        image, lines = drawn
        yield EvalSample(
            name, image, PROMPT, "\n".join(lines), "paragraph", (level.name, f"{level.name}, {kind}")
        )


# ---------------------------------------------------------------------------------------------------
# The curve


class Measured(NamedTuple):
    """One page that was read."""

    result: PageResult
    text_tokens: int  # tokens of the truth
    vision_tokens: int

    @property
    def ratio(self) -> float:
        """The compression: text tokens of the truth per vision token."""
        return self.text_tokens / self.vision_tokens


def measured_pages(results: Sequence[PageResult], count_tokens: Callable[[str], int]) -> list[Measured]:
    """The pages with their token counts. Unread pages have no vision tokens, and are left out.

    Raises:
        UsageError: no page has vision tokens.
    """
    pages = [
        Measured(result, count_tokens(result.sample.truth), result.right.vision_tokens)
        for result in results
        if result.right.vision_tokens
    ]
    if not pages:
        raise UsageError("no page was read with vision tokens, so there is no curve to draw")
    return pages


def curve(pages: Sequence[Measured], width: float) -> list[dict[str, Any]]:
    """One point per non-empty bucket of `width` in text tokens / vision tokens, as plain data.

    `precision` is fox_precision_official, which the paper's table is believed to show. Everything else is
    defined in nanoocr.eval.summary.
    """
    buckets: dict[int, list[Measured]] = {}
    for page in pages:
        buckets.setdefault(int(page.ratio // width), []).append(page)
    points = []
    for number, inside in sorted(buckets.items()):
        summary = summarise([page.result for page in inside])
        points.append(
            {
                "from": number * width,
                "to": (number + 1) * width,
                "pages": len(inside),
                "ratio": fmean(page.ratio for page in inside),
                "text_tokens": fmean(page.text_tokens for page in inside),
                "vision_tokens": fmean(page.vision_tokens for page in inside),
                "characters": fmean(len(p.result.sample.truth) / p.vision_tokens for p in inside),
                "phase": phase_of(summary["scores"]["cer"]["mean"]),
                "precision": summary["scores"]["fox_precision_official"],
                "cer": summary["scores"]["cer"],
                "corpus_cer": summary["corpus_cer"],
                "catastrophic": summary["catastrophic"],
                "repetition": summary["repetition"],
                "truncated": summary["truncated"],
            }
        )
    return points


def phase_of(error_rate: float) -> str:
    """Stable, unstable or collapsed, judged by the mean CER (the words are those of arXiv 2512.03643)."""
    return next((name for name, most in PHASES.items() if error_rate <= most), COLLAPSED)


def curve_row(point: Mapping[str, Any]) -> list[str]:
    """The COLUMNS of one bucket."""
    precision, cer = point["precision"], point["cer"]
    gap = precision.get("gap_wrong")
    return [
        point["phase"],
        f"{point['characters']:.1f}",
        str(point["pages"]),
        f"{point['ratio']:.1f}",
        f"{point['text_tokens']:.0f}",
        f"{precision['mean']:.1%}",
        f"{precision['low']:.2f}-{precision['high']:.2f}",
        "-" if gap is None else f"{gap:.3f}",
        f"{point['corpus_cer']:.1%}",
        f"{cer['median']:.1%}",
        f"{point['catastrophic']:.0%}",
        f"{point['truncated']:.0%}",
    ]
