"""A report as a list of blocks, written as one self-contained HTML page and as Markdown.

The HTML page loads nothing and runs nothing: pictures are data URIs, there is no script, and its own policy
forbids both. Everything that a model said is treated as text: it is escaped, and invisible characters are
shown.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

SHOWN = 3000  # a report shows this many characters of a text, and counts the rest
ALIKE = 0.4  # Below this similarity a comparison would match letters by accident, and hide what was read.


@dataclass(frozen=True)
class Heading:
    """A title of level 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Code:
    """Commands and settings, shown verbatim."""

    text: str


@dataclass(frozen=True)
class Rows:
    """A table; the first column is a name, the others are mostly numbers."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A picture with a caption; `name` is its file name beside the Markdown."""

    name: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True)
class Sample:
    """One page that was read: the picture, the truth, and the answers."""

    title: str
    name: str  # name of the picture's file
    png: bytes | None
    truth: str
    texts: dict[str, str] = field(default_factory=dict)  # keyed by the shown picture: right, wrong, blank


Block = Heading | Paragraph | Code | Rows | Figure | Sample


class Piece(NamedTuple):
    """A stretch of a comparison: `same`, `missing` (in the truth alone) or `extra` (in the answer alone)."""

    kind: str
    text: str


def differences(truth: str, text: str) -> list[Piece]:
    """Compare the answer with the truth, character by character (Levenshtein); the truth's part comes first.

    Texts with less than ALIKE in common are not aligned.
    """
    if Levenshtein.normalized_similarity(truth, text) < ALIKE:
        return [piece for piece in (Piece("missing", truth), Piece("extra", text)) if piece.text]
    pieces: list[Piece] = []
    for part in Levenshtein.opcodes(truth, text):
        if part.tag == "equal":
            pieces.append(Piece("same", truth[part.src_start : part.src_end]))
            continue
        gone, come = truth[part.src_start : part.src_end], text[part.dest_start : part.dest_end]
        pieces += [piece for piece in (Piece("missing", gone), Piece("extra", come)) if piece.text]
    return pieces


_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def visible(text: str) -> str:
    """The text with control and direction-changing characters as U+HEX in brackets."""
    return _INVISIBLE.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)


def clipped(text: str) -> tuple[str, str]:
    """The first SHOWN characters, and a remark about the rest ("" where there is none)."""
    rest = len(text) - SHOWN
    return text[:SHOWN], f"... and {rest:,} characters more" if rest > 0 else ""


# ---------------------------------------------------------------------------------------------------
# HTML

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
body { color: #1c1c1c; background: #fff; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #e2e2e2; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #999; }
.wide { overflow-x: auto; }
pre { background: #f6f6f4; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0; }
figure { margin: 1rem 0; } figure img { max-width: 100%; } figcaption { color: #555; font-size: 13px; }
.sample { display: grid; grid-template-columns: minmax(10rem, 18rem) 1fr; gap: 1rem; margin: 1.2rem 0; }
.sample img { max-width: 100%; border: 1px solid #ddd; } .sample h4 { margin: 0; grid-column: 1 / -1; }
.what { color: #555; font-size: 12px; }
del { background: #ffd3d0; color: #8c1007; } ins { background: #cfe8ff; color: #06447a; }
"""
LEGEND = "red, struck through: in the truth, not read; blue, underlined: read, not in the truth"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Write the whole page."""
    body = "\n".join(_html(block) for block in blocks)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{_text(title)}</h1>
{body}
</body>
</html>
"""


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_text(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_text(text)}</p>"
        case Code(text):
            return f"<pre>{_text(text)}</pre>"
        case Rows(titles, rows):
            head = "".join(f"<th>{_text(title)}</th>" for title in titles)
            lines = ("".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows)
            inside = "\n".join(f"<tr>{line}</tr>" for line in lines)
            return f'<div class="wide"><table><tr>{head}</tr>\n{inside}</table></div>'
        case Figure(_, png, caption):
            return f"<figure>{_image(png, caption)}<figcaption>{_text(caption)}</figcaption></figure>"
        case Sample():
            return _html_sample(block)


def _html_sample(sample: Sample) -> str:
    picture = _image(sample.png, sample.title) if sample.png else "<p>(no picture)</p>"
    truth, more = clipped(sample.truth)
    parts = [_quote("truth", _text(truth), more)]
    for condition, text in sample.texts.items():
        shown, more = clipped(text)
        # Only the answer for the sample's own picture is compared: others have no reason to agree with the
        # truth.
        inside = _compared(truth, shown) if condition == "right" else _text(shown)
        parts.append(_quote(READ_FROM.get(condition, condition), inside, more))
    inside = f"<h4>{_text(sample.title)}</h4><div>{picture}</div><div>{''.join(parts)}</div>"
    return f'<div class="sample">{inside}</div>'


READ_FROM = {"right": "read", "wrong": "read from another picture", "blank": "read from a blank picture"}


def _compared(truth: str, text: str) -> str:
    tags = {"same": "{}", "missing": "<del>{}</del>", "extra": "<ins>{}</ins>"}
    return "".join(tags[kind].format(_text(part)) for kind, part in differences(truth, text))


def _quote(what: str, inside: str, more: str) -> str:
    after = f'<div class="what">{_text(more)}</div>' if more else ""
    return f'<div class="what">{_text(what)}</div><pre>{inside or " "}</pre>{after}'


def _image(png: bytes, alt: str) -> str:
    return f'<img alt="{_text(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _text(text: str) -> str:
    return html.escape(visible(text), quote=True)


# ---------------------------------------------------------------------------------------------------
# Markdown


def to_markdown(title: str, blocks: Sequence[Block], pictures: str) -> str:
    """Write the report as Markdown. Its pictures belong into the folder `pictures` beside it."""
    return "\n\n".join([f"# {_plain(title)}", *(_markdown(block, pictures) for block in blocks)]) + "\n"


def pictures_of(blocks: Sequence[Block]) -> dict[str, bytes]:
    """The files that the Markdown shows, by name."""
    shown = (block for block in blocks if isinstance(block, Figure | Sample))
    return {block.name: block.png for block in shown if block.png is not None}


def _markdown(block: Block, pictures: str) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Code(text):
            return fenced(text)
        case Rows(titles, rows):
            return markdown_table(titles, [[_plain(cell) for cell in row] for row in rows])
        case Figure(name, _, caption):
            return f"![{_plain(caption)}]({pictures}/{name})"
        case Sample(heading, name, png, truth, texts):
            parts = [f"#### {_plain(heading)}", *([f"![picture]({pictures}/{name})"] if png else [])]
            for what, text in {"truth": truth, **{READ_FROM.get(c, c): t for c, t in texts.items()}}.items():
                shown, more = clipped(text)
                parts.append(f"{what}:\n\n{fenced(shown)}" + (f"\n\n{more}" if more else ""))
            return "\n\n".join(parts)


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table, with pipes and line breaks in cells replaced."""
    lines = [titles, ["---"] * len(titles), *rows]
    defused = ([" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in defused)


def fenced(text: str) -> str:
    """A code block whose fence is longer than every run of backticks in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{visible(text)}\n{fence}"


def _plain(text: str) -> str:
    """Escape a text, so that Markdown shows it as it is, without HTML, links or emphasis."""
    return re.sub(r"([\\`*_\[\]])", r"\\\1", html.escape(visible(text), quote=False))
