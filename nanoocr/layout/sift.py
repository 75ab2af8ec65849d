"""What is text and what is not, told from shape, surroundings and company."""

from __future__ import annotations

import numpy as np

from nanoocr.layout.components import Boxes, group_quantile, weighted_median
from nanoocr.layout.lines import Runs

SCARCE = 0.06  # share of the letters of a picture
LEAST_CONTRAST = 5.0  # grey levels beyond the threshold
FAINTEST = 0.3  # runs below this share of the page's usual contrast are stains or print of the other side
FILLS = 0.35  # letters take more than this share of the height of a picture of one line
LOW = 128  # pixels that a picture of one line is high at most
COLUMNS = 8  # a table of short cells has at most so many, counted from longer text
WIDEST_MARK = 1.5  # times as wide as it is high is a mark that is no dash
EDGE = 1.5  # pixels from the picture's edge at which a letter counts as cut by it
CUT_LETTERS, CUT_HEIGHT = 0.6, 0.75  # share of a cut line's letters at the edge; its height, in usual ones


def plausible(letters: Boxes, run_of: np.ndarray, runs: Runs) -> np.ndarray:
    """Which runs are text: (runs,) bool.

    Texture has no common baseline and height, and it goes on above and below. Four letters that pass are text
    of their own; fewer could be chance, so they need such text nearby, or a picture with little else.
    """
    count = len(runs)
    boxes = np.bincount(run_of, letters.width * letters.height, minlength=count)
    filled = np.bincount(run_of, letters.area, minlength=count) / boxes
    crowd = group_quantile(letters.crowd, run_of, count, 0.5)
    # Close lines crowd each other and thin strokes fill little, so neither alone decides.
    quality = runs.regular - 1.5 * np.maximum(crowd - 0.03, 0) - 2 * np.maximum(0.3 - filled, 0)
    quality -= np.maximum(np.abs(runs.slope) - 0.08, 0)
    narrow = group_quantile(letters.width, run_of, count, 0.5) < 0.25 * runs.cap
    bars = narrow & (filled > 0.85) & (runs.letters >= 5)  # these are the bars of a bar code
    # The fewer letters a run has, the more often it is regular by chance.
    least = np.select([runs.letters >= 8, runs.letters >= 4], [0.65, 0.7], 0.8)
    fits = ~bars & (quality > least) & (filled < 0.92) & (runs.box.contrast > LEAST_CONTRAST)
    sure = fits & (runs.letters >= 4) & (quality > 0.8) & (runs.box.contrast > 2 * LEAST_CONTRAST)
    if runs.letters[sure].sum() < SCARCE * runs.letters.sum():
        # Among hundreds of other pieces a few regular ones are chance.
        long = (runs.letters >= 7) & (quality > 0.85)
        sure, fits = sure & long, fits & (long | (runs.letters < 4))
    if not sure.any():
        fits &= (quality > 0.9) & (runs.box.contrast > 3 * LEAST_CONTRAST)
        return fits & _fills_picture(runs, fits)
    usual_cap = weighted_median(runs.cap[sure], runs.letters[sure])
    usual_contrast = weighted_median(runs.box.contrast[sure], runs.letters[sure])
    dashes = (runs.cap < 0.6 * usual_cap) & (filled > 0.6)
    # Faint print in a long and regular run is print all the same.
    clear = (runs.letters >= 8) & (quality > 0.9)
    faintest = np.where(clear, FAINTEST / 2, FAINTEST) * usual_contrast
    fits &= (runs.box.contrast > faintest) & ~dashes
    # What the edge of a page with other text cuts through is a torn border, or cannot be read.
    fits &= ~((runs.box.cut > 0.5) & (4 * runs.letters < runs.letters[sure].sum()))
    several = runs.letters >= 4
    few = fits & ~several & ((runs.letters >= 2) | (runs.box.width > 1.5 * runs.cap))
    text = fits & several
    # The cells of a table are company for each other, from the one beside longer text on.
    for _ in range(COLUMNS):
        found = _has_company(runs, few & ~text, text)
        if not found.any():
            break
        text |= found
    return text


def one_line(runs: Runs, height: int) -> np.ndarray:
    """Which runs fill the height of a low picture, in pixels: (runs,) bool.

    Whoever cut out so low a picture saw a line there, also where two letters are too few to tell it. In a
    large picture the same may be any shape.
    """
    fills: np.ndarray = (runs.cap > FILLS * height) & (runs.box.contrast > 3 * LEAST_CONTRAST)
    return fills & (runs.box.cut < 0.5) & (height <= LOW)


def rescue(letters: Boxes, run_of: np.ndarray, runs: Runs, text: np.ndarray) -> np.ndarray:
    """Which letters are text: (letters,) bool. Those of text runs, and single ones in a row with them.

    Without this a speck of dirt beside a price would take the price with it.
    """
    kept = text[run_of]
    rest = np.flatnonzero(~kept)
    sure = runs.take(text)
    # In parts, because the comparison is a table of letters by runs.
    for part in np.array_split(rest, len(rest) // 2000 + 1):
        kept[part] = _in_row_with(letters.take(part), sure)
    return kept


def _fills_picture(runs: Runs, fits: np.ndarray) -> bool:
    """Whether the runs that fit hold the most of the ink, as in the picture of one short word."""
    return bool(runs.box.area[fits].sum() > 0.6 * runs.box.area.sum())


def _has_company(runs: Runs, few: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Which of the runs `few` have one of `sure` nearby with letters as high and as dark: (runs,) bool."""
    short, text = runs.take(few), runs.take(sure)
    if not len(short) or not len(text):
        return np.zeros(len(runs), dtype=bool)
    cap = np.maximum(short.cap[:, None], text.cap[None])
    aside = np.maximum(text.box.x0[None] - short.box.x1[:, None], short.box.x0[:, None] - text.box.x1[None])
    away = np.abs(short.base[:, None] - text.base[None])
    same_row = away < 0.5 * cap
    near = ((aside < 10 * cap) & (away < 8 * cap)) | (same_row & (aside < 40 * cap))
    near &= cap < 2.2 * np.minimum(short.cap[:, None], text.cap[None])
    # A faint piece beside dark text is dirt, or shows through from the other side.
    near &= short.box.contrast[:, None] > 0.5 * text.box.contrast[None]
    result = few.copy()
    result[few] = near.any(axis=1)
    return result


def _in_row_with(alone: Boxes, sure: Runs) -> np.ndarray:
    """Which letters stand on the baseline of text of their size and darkness: (letters,) bool."""
    if not len(alone) or not len(sure):
        return np.zeros(len(alone), dtype=bool)
    aside = np.maximum(sure.box.x0[None] - alone.x1[:, None], alone.x0[:, None] - sure.box.x1[None])
    # The text's slope is drawn on, but not further than a few letters.
    reach = ((alone.x0 + alone.x1)[:, None] - (sure.box.x0 + sure.box.x1)[None]) / 2
    reach = np.clip(reach, -sure.box.width, sure.box.width)
    away = np.abs(alone.y1[:, None] - sure.base[None] - sure.slope[None] * reach)
    ratio = alone.height[:, None] / sure.cap[None]
    farthest = np.where(alone.cut > 0, 3, 25)[:, None] * sure.cap[None]
    fits = (away < 0.2 * sure.cap[None] + 1) & (aside < farthest) & (ratio > 0.62)
    # Beside "Year", whose letters are nearly all low, a capital is as high as those of the page.
    usual = weighted_median(sure.cap, sure.letters)
    as_usual = (np.abs(alone.height / usual - 1) < 0.15)[:, None] & (ratio < 1.6)
    fits &= (ratio < 1.25) | as_usual
    fits &= alone.contrast[:, None] > 0.5 * sure.box.contrast[None]
    return fits.any(axis=1)


def compact(letters: Boxes) -> np.ndarray:
    """Which boxes look like quotation marks or asterisks, and not like dashes or rules: (N,) bool."""
    result: np.ndarray = letters.width <= WIDEST_MARK * letters.height
    return result


def small_runs(runs: Runs) -> np.ndarray:
    """Which runs of text are only dots and dashes that stand alone, to be treated as marks: (runs,) bool."""
    return (runs.letters <= 2) & (runs.cap < 0.5 * weighted_median(runs.cap, runs.letters))


def cut_by_edge(letters: Boxes, run_of: np.ndarray, runs: Runs, height: int) -> np.ndarray:
    """Which runs the upper or lower edge of the picture cuts through: (runs,) bool.

    Where somebody cuts a line out of a page, the feet of the line above and the heads of the one below come
    along. Nobody can read them. They touch the edge and are lower than the other lines.
    """
    at_top, at_bottom = letters.y0 <= EDGE, letters.y1 >= height - EDGE
    share = np.stack([_share_of(at_top, run_of, len(runs)), _share_of(at_bottom, run_of, len(runs))])
    touches = (share > CUT_LETTERS).any(axis=0)
    # Where every run touches, somebody has cut a line out tightly and means what is left.
    if touches.all():
        return np.zeros(len(runs), bool)
    usual = weighted_median(runs.cap[~touches], runs.letters[~touches])
    seen = np.minimum(runs.cap, runs.box.y1 - runs.box.y0)
    cut: np.ndarray = touches & (seen < CUT_HEIGHT * usual)
    return cut


def _share_of(mask: np.ndarray, run_of: np.ndarray, runs: int) -> np.ndarray:
    """The share of the letters of each run that the mask names: (runs,) float."""
    return np.bincount(run_of, mask, runs) / np.maximum(np.bincount(run_of, minlength=runs), 1)
