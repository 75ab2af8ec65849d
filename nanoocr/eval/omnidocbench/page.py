"""Compares the pieces of one page's annotation with those of the prediction, as samples ready for scoring.

It behaves as opendatalab/OmniDocBench (`dataset/end2end_dataset.py`, `utils/match.py`). v1.0 matches texts
and formulas separately, and text beyond the truth counts as wrong. v1.5 matches them together, after it has
set aside everything that belongs to captions, headers and footers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nanoocr.eval.omnidocbench.extract import Block, Version, extract_blocks
from nanoocr.eval.omnidocbench.match import (
    CERTAIN,
    Match,
    TooManyPieces,
    adjacency_match,
    distances,
    plain_match,
    quick_match,
)
from nanoocr.eval.omnidocbench.normalise import (
    latex_to_unicode,
    normalise_formula,
    normalise_text,
    word_characters,
)
from nanoocr.eval.teds import TableScores, compare_tables, normalise_table

SCORED_TEXT = ("text_block", "title", "code_txt", "code_txt_caption", "reference")
# These pieces are matched, so that they use up their predictions, but they are not scored.
IGNORED_TEXT = (
    *("equation_caption", "figure_caption", "figure_footnote", "table_caption", "table_footnote"),
    *("code_algorithm", "code_algorithm_caption", "header", "footer", "page_footnote", "page_number"),
)
TEXT = (*SCORED_TEXT, *IGNORED_TEXT)
FORMULA = "equation_isolated"
# (kind, key of its content, labels in the order that breaks ties of reading order)
CONTENT = (("text", "text", TEXT), ("formula", "latex", (FORMULA,)), ("html_table", "html", ("table",)))
ARRAY = re.compile(r"\\begin\{array\}\{([^}]*)\}(.*?)\\end\{array\}", re.DOTALL)
ARRAY_END = r"\end{array}"
COLUMN_DECORATION = re.compile(r"[@!]\{[^}]*\}")
DOT_IN_CELL = re.compile(r"\$\\cdot\$")


@dataclass(frozen=True)
class Piece:
    """A piece of the truth or of the prediction. `place` is its reading order or its character position."""

    kind: str  # text, formula, html_table, latex_table
    label: str
    content: str
    place: float | None


@dataclass(frozen=True)
class Sample:
    """Two normalised texts (or two reading orders) whose edit distance counts."""

    truth: Sequence[Any]
    prediction: Sequence[Any]


@dataclass(frozen=True)
class TableSample(Sample):
    """Two normalised tables and their similarity as trees."""

    scores: TableScores


@dataclass(frozen=True)
class PageSamples:
    """Everything on one page that is scored."""

    text: list[Sample] = field(default_factory=list)
    formulas: list[Sample] = field(default_factory=list)
    tables: list[TableSample] = field(default_factory=list)
    order: Sample | None = None
    plainly_matched: bool = False  # True if there were too many pieces for merging
    latex_tables: int = 0  # predicted LaTeX tables; they count as wrong, because LaTeX is not converted here


def page_samples(annotation: Mapping[str, Any], markdown: str, version: Version) -> PageSamples:
    """Match one page: its record in OmniDocBench.json and the predicted markdown, which may be empty."""
    truth = truth_pieces(annotation)
    blocks = extract_blocks(markdown, version)
    tables, cells, latex = match_tables([p for p in truth if p.kind == "html_table"], blocks)
    pieces = [piece for piece in truth if piece.kind != "html_table"]
    match = _match_apart if version == "1.0" else _match_together
    text, formulas, order, plainly = match(pieces, blocks, cells)
    return PageSamples(text, formulas, tables, order, plainly, latex)


# ---------------------------------------------------------------------------------------------------------
# The annotation


def truth_pieces(annotation: Mapping[str, Any]) -> list[Piece]:
    """Texts, formulas and tables of an annotation in reading order. Blocks cut by a column end are joined."""
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for det in _join_truncated(annotation):
        by_label.setdefault(str(det.get("category_type")), []).append(det)
    pieces = [
        Piece(kind, label, str(det.get(key) or ""), det.get("order"))
        for kind, key, labels in CONTENT
        for label in labels
        for det in by_label.get(label, [])
    ]
    return sorted(pieces, key=lambda piece: piece.place or 0)


def _join_truncated(annotation: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The layout's blocks. Blocks tied by a `truncated` relation are joined and come last.

    As in the official code, the middle block in a chain of three is joined twice.
    """
    chains: list[list[Any]] = []
    for relation in (annotation.get("extra") or {}).get("relation") or []:
        if relation.get("relation_type") == "truncated":
            pair = [relation.get("source_anno_id"), relation.get("target_anno_id")]
            touched = [chain for chain in chains if pair[0] in chain or pair[1] in chain]
            for chain in touched:
                chain += pair
            if not touched:
                chains.append(pair)
    tied = {member for chain in chains for member in chain}
    dets = {det.get("anno_id"): det for det in annotation["layout_dets"]}
    yield from (det for det in annotation["layout_dets"] if det.get("anno_id") not in tied)
    for chain in chains:
        members = sorted((dets[m] for m in chain if m in dets), key=lambda det: det.get("order") or 0)
        if members:
            yield {**members[0], "text": "".join(str(det.get("text") or "") for det in members)}


# ---------------------------------------------------------------------------------------------------------
# Tables


def match_tables(
    truths: Sequence[Piece], blocks: Sequence[Block]
) -> tuple[list[TableSample], list[Piece], int]:
    """(samples, cells of predicted tables that no true table needs, number of LaTeX tables).

    On a page with more LaTeX than HTML tables, the LaTeX ones are the answer, and they are wrong.
    """
    latex = [block for block in blocks if block.kind == "latex_table"]
    found = [block for block in blocks if block.kind == "html_table"]
    if not truths:
        return [], [], len(latex)
    truths = [truth for truth in truths if truth.content]
    if len(latex) > len(found):
        return [_table_sample(truth, "") for truth in truths], [], len(latex)
    samples, surplus = [], []
    for match in plain_match([truth.content for truth in truths], [block.content for block in found]):
        if match.truths:
            samples.append(
                _table_sample(truths[match.truths[0]], "".join(found[j].content for j in match.found))
            )
        else:
            surplus = [piece for j in match.found for piece in _cell_pieces(found[j])]
    return samples, surplus, len(latex)


def _table_sample(truth: Piece, predicted: str) -> TableSample:
    wanted, found = normalise_table(truth.content), normalise_table(predicted)
    # A text without any table is compared as it is.
    wanted, found = wanted or truth.content, found or predicted
    return TableSample(wanted, found, compare_tables(found, wanted))


def _cell_pieces(block: Block) -> list[Piece]:
    """The texts of a table's cells, each as a piece of text at the table's place."""
    from bs4 import BeautifulSoup

    cells = BeautifulSoup(block.content, "html.parser").find_all("td")
    texts = [DOT_IN_CELL.sub("", cell.string).strip() for cell in cells if cell.string]
    return [Piece("text", block.label, text, block.start) for text in texts]


# ---------------------------------------------------------------------------------------------------------
# Texts and formulas


@dataclass(frozen=True)
class Line:
    """A piece with its normalised content."""

    piece: Piece
    label: str
    content: str
    normal: str


def lines_of(pieces: Sequence[Piece], version: Version) -> list[Line]:
    """The pieces that still have content after normalisation.

    The official code looks up the place (and a prediction's label) by number in the list that still contains
    the empty pieces. So `piece` is shifted in the same way, while `label` and `content` are the line's own.
    """
    kept = []
    for piece in pieces:
        formula = piece.kind == "formula"
        normal = normalise_formula(piece.content, version) if formula else normalise_text(piece.content)
        if piece.content and normal:
            kept.append((piece, normal))
    return [Line(shifted, own.label, own.content, normal) for shifted, (own, normal) in zip(pieces, kept)]


# (text, formulas, reading order, whether pieces were only assigned)
Matched = tuple[list[Sample], list[Sample], "Sample | None", bool]


def _match_apart(truths: Sequence[Piece], blocks: Sequence[Block], _: Sequence[Piece]) -> Matched:
    """v1.0: match texts with texts, and formulas with formulas."""
    samples: dict[str, list[Sample]] = {"text": [], "formula": []}
    order, plainly = None, False
    for kind in samples:
        of_kind = [piece for piece in truths if piece.kind == kind]
        if not of_kind:
            continue
        wanted = lines_of(of_kind, "1.0")
        found = lines_of([_piece(block) for block in blocks if block.kind == kind], "1.0")
        matches, gave_up = _match_or_assign(wanted, found, "1.0")
        plainly |= gave_up
        if kind == "formula":
            matches = [match for match in matches if match.truths]
        else:
            matches = [match for match in matches if _label(match, wanted) not in IGNORED_TEXT]
            order = reading_order(matches, wanted, found)
        samples[kind] = [_sample(match, wanted, found) for match in matches]
    return samples["text"], samples["formula"], order, plainly


def _match_together(truths: Sequence[Piece], blocks: Sequence[Block], cells: Sequence[Piece]) -> Matched:
    """v1.5: match texts and formulas together; a formula that was read as text is scored as text."""
    predicted = _predicted(blocks, cells)
    wanted = lines_of([part for piece in truths for part in split_array(piece, predicted=False)], "1.5")
    found = lines_of([part for piece in predicted for part in split_array(piece, predicted=True)], "1.5")
    matches, plainly = _match_or_assign(wanted, found, "1.5")
    text = [match for match in matches if match.truths and _label(match, wanted) in SCORED_TEXT]
    order = reading_order(text, wanted, found)
    samples, formulas = [_sample(match, wanted, found) for match in text], []
    for match in matches:
        if not match.truths or _label(match, wanted) != FORMULA:
            continue
        if match.found and found[match.found[0]].piece.label not in ("equation_inline", FORMULA):
            samples.append(_formula_as_text(match, wanted, found))
        else:
            formulas.append(_sample(match, wanted, found))
    return samples, formulas, order, plainly


def _match_or_assign(
    wanted: Sequence[Line], found: Sequence[Line], version: Version
) -> tuple[list[Match], bool]:
    """The matches, and whether there were so many pieces that they were only assigned."""
    truths, outputs = [line.normal for line in wanted], [line.normal for line in found]
    try:
        if version == "1.0":
            return quick_match(truths, outputs, version), False
        return _hybrid_match(truths, outputs, [line.label in IGNORED_TEXT for line in wanted]), False
    except TooManyPieces:
        return plain_match(truths, outputs), True


def _predicted(blocks: Sequence[Block], cells: Sequence[Piece]) -> list[Piece]:
    """Texts and formulas by position, inline formulas last; ties fall as in the official lists."""
    kinds = dict.fromkeys(block.kind for block in blocks if block.kind in ("text", "formula"))
    listed = [_piece(block) for kind in kinds for block in blocks if block.kind == kind]
    return sorted([*listed, *cells], key=lambda p: (p.label == "equation_inline", p.place or 0))


def _piece(block: Block) -> Piece:
    return Piece(block.kind, block.label, block.content, block.start)


def _hybrid_match(truths: Sequence[str], found: Sequence[str], ignored: Sequence[bool]) -> list[Match]:
    """v1.5's match. Predictions that certainly belong to an ignored truth are set aside together with it."""
    if not truths or not found or len(truths) == len(found) == 1:
        return quick_match(truths, found, "1.5")
    near = distances([truth for truth, out in zip(truths, ignored) if out], found) < CERTAIN
    rows = [i for i, out in enumerate(ignored) if not out]
    columns = [j for j in range(len(found)) if not near[:, j].any()]
    matches = adjacency_match([truths[i] for i in rows], [found[j] for j in columns], "1.5")
    return [Match(tuple(rows[i] for i in m.truths), tuple(columns[j] for j in m.found)) for m in matches]


def _label(match: Match, wanted: Sequence[Line]) -> str:
    """The most frequent label of a match's truths, scored before ignored labels; empty without a truth."""
    labels = [wanted[i].label for i in match.truths]
    counted = [label for label in labels if label not in IGNORED_TEXT] or labels
    return Counter(counted).most_common(1)[0][0] if counted else ""


def _sample(match: Match, wanted: Sequence[Line], found: Sequence[Line]) -> Sample:
    return Sample(
        "".join(wanted[i].normal for i in match.truths), "".join(found[j].normal for j in match.found)
    )


def _formula_as_text(match: Match, wanted: Sequence[Line], found: Sequence[Line]) -> Sample:
    """Pair a true formula, as Unicode text, with the text that it was matched with."""
    latex = wanted[match.truths[0]].content
    if len(match.truths) > 1:
        lines = (wanted[i].content.strip("$").strip("\n") for i in match.truths)
        latex = r"\begin{array}{l} " + r" \\ ".join("{" + line + "}" for line in lines) + r" \end{array}"
    plain = latex_to_unicode(latex)
    plain = latex if plain is None else plain
    return Sample(word_characters(plain) or plain, "".join(found[j].normal for j in match.found))


def reading_order(matches: Sequence[Match], wanted: Sequence[Line], found: Sequence[Line]) -> Sample | None:
    """The places of all truths in their own order, and of the matched ones in the prediction's order."""
    places = {match: [p for i in match.truths if (p := wanted[i].piece.place)] for match in matches}
    with_prediction = sorted(
        (match for match in matches if match.found), key=lambda match: found[match.found[0]].piece.place or 0
    )
    truth = sorted(place for match in matches for place in places[match])
    prediction = [place for match in with_prediction for place in places[match]]
    return Sample(truth, prediction) if truth or prediction else None


def split_array(piece: Piece, *, predicted: bool) -> list[Piece]:
    r"""Split a formula that is one column of lines (\begin{array}{l} ... \\ ...) into one piece per line.

    Lines of the truth get tenths after its reading order; predicted ones get their character position.
    """
    end = piece.content.rfind(ARRAY_END)
    if piece.kind != "formula" or end < 0:
        return [piece]
    array = ARRAY.search(piece.content[: end + len(ARRAY_END)])
    if not array or COLUMN_DECORATION.sub("", re.sub(r"\s+|\|", "", array.group(1))) not in ("l", "c", "r"):
        return [piece]
    parts: list[Piece] = []
    searched = 0
    for line in (part.strip() for part in array.group(2).split(r"\\") if part.strip()):
        offset = array.group(2).find(line, searched)
        searched = offset + len(line)
        start = piece.place or 0
        place = (
            start + array.start(2) + offset if predicted else round(float(start) + (len(parts) + 1) / 10, 1)
        )
        parts.append(replace(piece, content=rf"\[{line}\]", place=place))
    return parts
