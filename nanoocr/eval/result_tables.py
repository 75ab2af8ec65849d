"""The tables of docs/results.md (scripts/results.py): metrics, sets, and their presentation.

A table is a Section: the sets and engines measured for it, and columns, each of which is a named score of a
set. Every cell shows in brackets the score of the same answers against other pages, which an engine would
reach without looking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nanoocr.eval.page_tables import drop_table, empty_table, rate, seconds
from nanoocr.eval.report import markdown_table

Sets = Mapping[str, Mapping[str, Any]]  # set -> engine -> its result (scripts/measure_pages.py)
FAIR = "tesseract,rapidocr_960,ppocr_tiny"
RAPIDOCR = "tesseract,rapidocr,rapidocr_960,rapidocr_line,ppocr_tiny"


class Column(NamedTuple):
    """One column: its title, the set, and the score. `part` is mean, median, or extra (the set's own)."""

    title: str
    set_name: str
    score: str
    part: str = "mean"


@dataclass(frozen=True)
class Section:
    """One table: its title, its sets and engines, and its columns."""

    title: str
    explained: str
    sets: tuple[str, ...]
    columns: tuple[Column, ...]
    peers: str = FAIR
    drop: bool = False  # add the table of losses on random letters
    empty: bool = False  # the set has pictures without text, and gets a table of its own


FOX = ("fox_original", "fox_rendered", "fox_random")
SECTIONS: dict[str, Section] = {
    "tier3": Section(
        "Fox and OmniDocBench",
        "Fox: fox_precision_official is what Fox's own script prints as precision, the share of the truth's "
        "words that were found, as sets and with case; fox_ned is the edit distance of the page. "
        "OmniDocBench: the official v1.5 edit distances, 0 is perfect; this project's model and tesseract's "
        "English data know no Chinese.",
        ("fox_original", "omnidocbench"),
        (
            Column("Fox: precision, official", "fox_original", "fox_precision_official", "extra"),
            Column("Fox: F1", "fox_original", "fox_f1", "extra"),
            Column("Fox: NED", "fox_original", "fox_ned", "extra"),
            Column("OmniDocBench: text edit", "omnidocbench", "text_edit", "extra"),
            Column("English pages", "omnidocbench", "text_edit_english", "extra"),
            Column("Chinese pages", "omnidocbench", "text_edit_simplified_chinese", "extra"),
            Column("reading order", "omnidocbench", "order_edit", "extra"),
        ),
    ),
    "random": Section(
        "What is read and what is guessed: Fox's texts and random letters",
        "set_precision: right words / words said, as sets (arXiv 2601.03714). Natural is the text of Fox's "
        "pages set anew, random the same layout with random letters. Rows named published are the answers "
        "that others have published, scored here.",
        FOX,
        (
            Column("original: cer_free, median", "fox_original", "cer_free", "median"),
            Column("original: set_precision", "fox_original", "set_precision"),
            Column("rendered: bag_f1_free", "fox_rendered", "bag_f1_free"),
            Column("random: bag_f1_free", "fox_random", "bag_f1_free"),
        ),
        drop=True,
    ),
    "receipts": Section(
        "Receipts, forms and pages of PDFs",
        "SROIE's truth is all capitals, so that cer_strict says little there; turbo_set_f1 is TurboOCR's.",
        ("sroie", "funsd", "born_digital"),
        (
            Column("SROIE: cer_free", "sroie", "cer_free"),
            Column("cer_strict", "sroie", "cer_strict"),
            Column("bag_f1_free", "sroie", "bag_f1_free"),
            Column("turbo_set_f1", "sroie", "turbo_set_f1"),
            Column("FUNSD: bag_f1_free", "funsd", "bag_f1_free"),
            Column("turbo_set_f1", "funsd", "turbo_set_f1"),
            Column("PDF pages: bag_f1_free", "born_digital", "bag_f1_free"),
        ),
    ),
    "boxes": Section(
        "Lines found on receipts, words spotted in scenes, tables, olmOCR-bench",
        "iou50: a box found for a box of SROIE's truth at an intersection above half of the union; covered "
        "and inside: shares of the truth's and of the found area. spotting_text: ICDAR 2015's word spotting "
        "(three letters or more, without case) by the text alone, because the truth here has no places. teds "
        "needs tables in HTML, which none of these engines writes. olmocr_bench: share of tests passed.",
        ("sroie_boxes", "scenes", "tables", "olmocr_bench"),
        (
            Column("SROIE lines: iou50_hmean", "sroie_boxes", "iou50_hmean", "extra"),
            Column("covered", "sroie_boxes", "covered", "extra"),
            Column("inside", "sroie_boxes", "inside", "extra"),
            Column("scenes: spotting_text_hmean", "scenes", "spotting_text_hmean", "extra"),
            Column("tables: plain_word_f1", "tables", "plain_word_f1", "extra"),
            Column("teds", "tables", "teds", "extra"),
            Column("olmocr_bench", "olmocr_bench", "olmocr_bench", "extra"),
        ),
    ),
    "cards": Section(
        "Cards: what one option of rapidocr changes",
        "rapidocr is the package as it comes: its detector enlarges every picture until the shorter side has "
        "736 pixels. rapidocr_960 looks at the picture as it is, up to 960 pixels; rapidocr_line is its "
        "recogniser alone, which is made for single lines. Only the second is a fair setting for cards.",
        ("cards",),
        (
            Column("cer_free", "cards", "cer_free"),
            Column("cer_strict", "cards", "cer_strict"),
            Column("bag_f1_free", "cards", "bag_f1_free"),
        ),
        peers=RAPIDOCR,
    ),
    "lines": Section(
        "Single lines of receipts, cut by their true boxes",
        "The reading without the finding of lines.",
        ("sroie_lines",),
        (
            Column("cer_free, mean", "sroie_lines", "cer_free"),
            Column("bag_f1_free", "sroie_lines", "bag_f1_free"),
        ),
        peers="tesseract,rapidocr_line,ppocr_tiny",
    ),
    "empty": Section(
        "Pictures without text",
        "Every character said is invented.",
        ("empty",),
        (),
        "tesseract,ppocr_tiny",
        empty=True,
    ),
}


def cell(result: Mapping[str, Any], column: Column) -> str:
    """A score with its control in brackets; a dash where the engine has not read the set."""
    if column.part == "extra":
        scores, control = result.get("extra", {}), result.get("extra_control", {})
    elif "scores" in result:
        scores, control = result["scores"][column.part], result["scores"]["control"]
    else:
        scores, control = {}, {}
    if column.score not in scores:
        return "-"
    # A median gets no control, because the mean over wrong pages beside it would be another kind of number.
    shown = f" ({rate(control[column.score])})" if column.score in control and column.part != "median" else ""
    return rate(scores[column.score]) + shown


def section_table(section: Section, sets: Sets) -> str:
    """One row per engine, ours first; "" where nothing was read."""
    engines = list(dict.fromkeys(e for name in section.sets for e in sets.get(name, {}) if not published(e)))
    shown = [column for column in section.columns if sets.get(column.set_name)]
    used = list(dict.fromkeys(column.set_name for column in shown))
    rows = []
    for engine in engines:
        cells = [cell(sets[column.set_name].get(engine, {}), column) for column in shown]
        found = [sets[name].get(engine, {}) for name in used]
        pages = " + ".join(str(one["scores"]["pages"]) if "scores" in one else "0" for one in found)
        cost = " + ".join(seconds(one.get("cpu_seconds")) for one in found)
        rows.append([engine, *cells, pages, cost])
    return markdown_table(("engine", *(c.title for c in shown), "pages", "CPU s/page"), rows) if rows else ""


def published(engine: str) -> bool:
    """Whether a row has published answers, which were not read here."""
    return engine.startswith("published: ")


def tables_of(section: Section, sets: Sets) -> list[str]:
    """All tables of a section, except those without rows."""
    tables = [section_table(section, sets)] if section.columns else []
    tables += [drop_table(sets)] if section.drop else []
    tables += [empty_table(sets["empty"])] if section.empty and sets.get("empty") else []
    return [table for table in tables if table]
