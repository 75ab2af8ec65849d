"""What lies on disk as documents with truths: the formats are told apart by what the files are.

A folder of pictures or PDFs with a .txt or .md beside each; line crops, as NAME.gt.txt beside NAME.png or in
a list with a picture and its text on each line; PAGE-XML, ALTO and hOCR beside their pictures; Label Studio's
export; chat rows; Parquet in FineVision's schema; HDF5 pages with boxes. Every file that cannot be used is
named in a sentence, and the rest goes on.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from nanoocr.alphabet import written_one_way
from nanoocr.data.rows import BadRowError, Row, encoded
from nanoocr.data.task import Task
from nanoocr.errors import PictureError, UsageError
from nanoocr.finetune import boxes, lists, xml_pages
from nanoocr.finetune.hdf5 import hdf5_documents
from nanoocr.finetune.label_studio import is_label_studio
from nanoocr.finetune.types import Gathered, TrueDocument, TrueLine
from nanoocr.folders import files_below, pair_texts, text_stem
from nanoocr.pages import is_pdf
from nanoocr.pictures import upright_size
from nanoocr.tasks.common import existing, is_file, read_text
from nanoocr.tasks.jsonl import Jsonl
from nanoocr.tasks.parquet import parquet_task

FLAT, LOW = 2.0, 200  # a picture at least so many times as wide as high, and no higher, may be a line
Found = Iterator[TrueDocument | str]


def gather(data: str | Path) -> Gathered:
    """All documents of DATA, a file or a folder, and a sentence for everything that is none.

    Raises:
        UsageError: DATA does not exist, or no document is in it.
    """
    path = existing(data, "folder or file of documents with texts")
    documents: dict[str, TrueDocument] = {}
    problems: list[str] = []
    told: dict[object, list[str]] = {}  # picture -> words of its text, whatever names its documents have
    for found in _of_folder(path) if path.is_dir() else _of_file(path, path.parent):
        if isinstance(found, str):
            problems.append(found)
        elif isinstance(found.source, Path) and not is_file(found.source):
            problems.append(f"{found.name}: its picture cannot be opened: it is a broken link or no file")
        elif not found.text.strip():
            problems.append(f"{found.name}: its text is empty")
        elif told.get(_picture(found)) == found.text.split():
            continue  # the same once more, as crops have it that come with a list as well
        elif _picture(found) in told:
            problems.append(f"{found.name}: a second text for one picture; the first one is used")
        else:
            name = _free_name(found, documents)
            documents[name] = replace(_one_way(found), name=name)
            told[_picture(found)] = found.text.split()
    if not documents:
        why = f": {'; '.join(problems[:3])}" if problems else ""
        raise UsageError(f"{path}: holds no picture with a text beside it{why}")
    return Gathered(tuple(documents.values()), tuple(problems))


def _free_name(document: TrueDocument, taken: Container[str]) -> str:
    """The document's name, or one for it alone where a file of another folder has the same."""
    names = [document.name]
    if isinstance(document.source, Path):
        names += [f"{document.source.parent.name}/{document.name}", f"{document.source}: {document.name}"]
    numbered = (f"{document.name} ({number})" for number in count(2))
    return next(name for name in chain(names, numbered) if name not in taken)


def _picture(document: TrueDocument) -> object:
    """The same for two documents that show the same page, which must not stand on both sides of the split."""
    source = document.source
    shown = source.resolve() if isinstance(source, Path) else hashlib.sha256(source).hexdigest()
    return shown, document.page


def _one_way(document: TrueDocument) -> TrueDocument:
    """Accents joined to their letters, and what fonts draw alike written as the model writes it."""

    def mended(text: str) -> str:
        """The text as the model writes it."""
        return written_one_way(unicodedata.normalize("NFC", text))

    def line(one: TrueLine) -> TrueLine:
        """A line whose text and words are mended."""
        return TrueLine(mended(one.text), one.quad, tuple(map(line, one.words)))

    return replace(document, text=mended(document.text), lines=tuple(map(line, document.lines)))


def _of_file(path: Path, root: Path) -> Found:
    """The documents of one file that lists or holds many; pictures are looked for below `root`."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".json"):
        yield from _of_json(path)
    elif suffix == ".parquet":
        yield from _of_rows(parquet_task(path), path.name)
    elif suffix in (".h5", ".hdf5"):
        yield from hdf5_documents(path)
    elif suffix in xml_pages.SUFFIXES:
        yield from boxes.documents_of(path, root)
    elif suffix in (*lists.SUFFIXES, ".txt"):
        yield from lists.list_documents(path)
    else:
        raise UsageError(
            f"{path}: give a folder, or a file of .xml, .hocr, .json, .jsonl, .parquet, .h5, .tsv"
        )


def _of_json(path: Path) -> Found:
    """Label Studio's tasks have annotations, lists have a picture and a text; the rest is chat rows."""
    if path.suffix.lower() == ".json" and is_label_studio(path):
        yield from boxes.label_studio_documents(path)
    elif lists.lists_pictures(path):
        yield from lists.json_documents(path)
    else:
        yield from _of_rows(Jsonl(path), path.name)


def _of_folder(root: Path) -> Found:
    """Everything of a known kind under a folder, in the order of names."""
    files, failed = files_below(root)
    yield from (f"{where}: cannot be searched ({reason})" for where, reason in failed)
    used: set[Path] = set()
    with_places: set[Path] = set()
    for path in files:
        suffix = path.suffix.lower()
        if suffix in (*xml_pages.SUFFIXES, ".json", ".jsonl", ".parquet", ".h5", ".hdf5", *lists.SUFFIXES):
            for found in _guarded(path, root):
                if isinstance(found, TrueDocument) and isinstance(found.source, Path):
                    used.add(found.source)
                    # A picture whose places are known needs no plain text as well.
                    with_places |= {path.with_suffix("")} if suffix in xml_pages.SUFFIXES else set()
                yield found
    plain = [path for path in files if (text_stem(path) or path.with_suffix("")) not in with_places]
    yield from _pairs(root, [path for path in plain if path.suffix.lower() not in lists.SUFFIXES], used)


def _guarded(path: Path, root: Path) -> Found:
    """A file of a folder that cannot be used is a sentence, where alone it would end the command."""
    try:
        yield from _of_file(path, root)
    except UsageError as error:
        yield str(error)


# ---------------------------------------------------------------------------------------------------
# Pictures with texts beside them


def _pairs(root: Path, files: Sequence[Path], used: set[Path]) -> Found:
    """Pictures with a text beside each. Those of `used` have a truth already, and need none."""
    found = pair_texts(files)
    for taken, other in found.doubled:
        yield f"{other.relative_to(root)}: a second text for one picture; {taken.name} is used"
    alone = [path for path in found.pictures if path not in used]
    yield from (f"{path.relative_to(root)}: no .txt or .md beside it" for path in alone)
    for picture, text in found.pairs:
        try:
            yield _beside(picture, text, str(picture.relative_to(root)))
        except BadRowError as error:
            yield str(error)
    yield from (f"{path.relative_to(root)}: no picture or PDF beside it" for path in found.texts)


def _beside(picture: Path, text: Path, name: str) -> TrueDocument:
    said = read_text(text, name)
    said = plain_of_markdown(said) if text.suffix.lower() == ".md" else said
    crop = text.name.lower().endswith(".gt.txt") or (len(said.splitlines()) == 1 and _is_flat(picture))
    return TrueDocument(
        name, picture, "crop" if crop else "text", said, lists.group_of(name) if crop else name
    )


def _is_flat(picture: Path) -> bool:
    if is_pdf(picture):
        return False
    try:
        height, width = upright_size(picture.read_bytes(), name=str(picture))
    except (PictureError, OSError):
        return False  # said again, with its reason, where it is opened
    return height <= LOW and width >= FLAT * height


# What olmOCR writes above a page.
FRONT_MATTER = re.compile(r"\A---\n(?:[\w-]+:.*\n|[ \t]+.*\n)*---(?:\n|\Z)")
# Marks around words, and what is left of them. A mark with a blank or a letter on its other side is a sign.
EMPHASIS = (
    (re.compile(r"(\*\*|__|~~|`)(.+?)\1"), r"\2"),
    (re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*]*[^\s*])\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w\\])_(?=[^\s_])([^_]*[^\s_])_(?!\w)"), r"\1"),
)


def plain_of_markdown(text: str) -> str:
    """The words of a Markdown text as they stand on the page: no marks of headings, emphasis and tables."""
    lines = []
    for line in FRONT_MATTER.sub("", text).splitlines():
        if re.fullmatch(r"\s*\|?[\s:|-]*-{2,}[\s:|-]*\|?\s*", line):
            continue  # the rule of a table, or one across the page
        line = re.sub(r"^\s{0,3}(#{1,6}\s+|>\s?)", "", line)
        line = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line)
        for mark, left in EMPHASIS:
            line = mark.sub(left, line)
        # Tables may be in HTML. Only names of its tags are taken out, since prices and code have < as well.
        line = re.sub(r"</?(table|thead|tbody|tr|td|th|caption|br|p)\b[^<>]*>", " ", line)
        # These may stand within a word, as in H<sub>2</sub>O.
        line = re.sub(r"</?(b|i|u|em|strong|sup|sub)\b[^<>]*>", "", line)
        line = re.sub(r"\\([\\`*_{}\[\]()#+.!|>~-])", r"\1", html.unescape(line))
        lines.append(line.replace("|", " ").rstrip() if line.lstrip().startswith("|") else line)
    return "\n".join(lines).strip()


# ---------------------------------------------------------------------------------------------------
# Rows


def _of_rows(task: Task, name: str) -> Found:
    """Rows with one picture: all that is answered about it is its text."""
    for i in range(len(task)):
        try:
            yield _of_row(task[i], f"{name}/{i}")
        except BadRowError as error:
            yield str(error)


def _of_row(row: Row, name: str) -> TrueDocument:
    if len(row.pictures) != 1 or len(row.turns) != 1:
        raise BadRowError(f"{name}: fine-tuning takes rows of one picture, one question and its text")
    text = plain_of_markdown(row.answer)
    picture = row.pictures[0]
    content = picture if isinstance(picture, bytes) else encoded(picture)
    try:
        height, width = upright_size(content, name=name)
    except PictureError as error:
        raise BadRowError(str(error)) from error
    crop = len(text.splitlines()) == 1 and height <= LOW and width >= FLAT * height
    return TrueDocument(name, content, "crop" if crop else "text", text, name)
