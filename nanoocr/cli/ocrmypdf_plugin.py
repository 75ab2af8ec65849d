"""An engine for OCRmyPDF 17: `ocrmypdf --ocr-engine nanoocr scan.pdf searchable.pdf`.

OCRmyPDF finds this module by its entry point and asks for the engine several times a page. So nothing heavy
is imported before the first picture is read, and one model serves the whole process. Other engines stay as
they are: the plugin answers only to its own name, and to `auto` where tesseract is not installed.
"""

from __future__ import annotations

import gc
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ocrmypdf import hookimpl
from ocrmypdf.exceptions import MissingDependencyError
from ocrmypdf.models.ocr_element import Baseline, BoundingBox, OcrClass, OcrElement
from ocrmypdf.pluginspec import OcrEngine, OrientationConfidence

from nanoocr.document import Line, PageLike, TextPage, angle, blocks, hull, hull_of_lines
from nanoocr.errors import CheckpointError, NanoOCRError
from nanoocr.formats.clean import clean
from nanoocr.formats.shapes import baseline_of, quarter, slope

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from pydantic import BaseModel

    from nanoocr.inference.reader import Reader

NAME = "nanoocr"
TESSERACT_PLUGIN = "ocrmypdf.builtin_plugins.tesseract_ocr"
SURE, UNSURE = 15.0, 0.0  # OCRmyPDF turns a page from 14 on; its scale has no unit
# Smaller leans, in degrees, are not passed on: one PDF reader tears the letters of leaning lines apart.
LEANING = 3.0
# This share of the line's height stays free between words: OCRmyPDF's own blanks do not reach every reader.
GAP = 0.1
UPRIGHT_LEAN = 15.0  # degrees; a line that leans more says nothing about how the sheet lay in the scanner
DEFAULT_DPI = 72.0
COLLECT_AFTER = 50_000  # new objects; Python's own 700 make it look through those of torch again and again

log = logging.getLogger(__name__)


class SharedModel:
    """One model for all pages of a process, and the threads that use it now.

    Reading changes nothing in a model, so pages that are read at the same time may share it.
    """

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: tuple[Reader, int] | None = None
        self.threads_at_work: set[int] = set()

    def load(self) -> tuple[Reader, int]:
        """The model, loaded once, and how many torch threads it may use (0 means torch's choice)."""
        with self._loading:
            if self._loaded is None:
                with _collecting_less():
                    from nanoocr import Reader
                    from nanoocr.machine import choose_threads

                    threads = choose_threads()  # before the model is there: it looks at the machine's load
                    self._loaded = Reader(), threads
                gc.freeze()  # without this the garbage collector scans all of torch again and again
            return self._loaded

    @contextmanager
    def for_a_page(self) -> Iterator[Reader]:
        """The model for one page, with this page's part of the processors.

        Two torch threads on one page wait for each other so often that two pages with one thread each take a
        quarter less processor time.
        """
        self.threads_at_work.add(threading.get_ident())
        try:
            reader, threads = self.load()
            from nanoocr.machine import use_threads  # behind `load`, which is where torch is to be imported

            use_threads(threads and max(1, threads // len(self.threads_at_work)))
            yield reader
        finally:
            self.threads_at_work.discard(threading.get_ident())


@contextmanager
def _collecting_less() -> Iterator[None]:
    """Garbage is collected as seldom as in `nanoocr read` while torch is imported: a sixth of that time."""
    first, *others = gc.get_threshold()
    gc.set_threshold(max(COLLECT_AFTER, first), *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)


# In a worker process OCRmyPDF makes engines, and even its plugin manager, anew for every page. Only this
# module lasts as long as the process, so it keeps the model.
MODEL = SharedModel()


def read_for_ocrmypdf(picture: Path, model: SharedModel = MODEL) -> PageLike:
    """Read the page in a picture file.

    Raises:
        NanoOCRError: the picture cannot be read, or there is no model.
    """
    with model.for_a_page() as reader:
        pages: Any = reader.read(picture)
    page: PageLike = pages[0] if isinstance(pages, list) else pages
    return page


def find_lines_for_ocrmypdf(picture: Path, model: SharedModel = MODEL) -> PageLike:
    """Find the lines of a page and its rotation, without reading the text, which is most of the work.

    Raises:
        NanoOCRError: the picture cannot be read, or there is no model.
    """
    from nanoocr.pictures import open_image

    with model.for_a_page() as reader:
        image = open_image(picture)
        if not reader.by_lines:
            return TextPage(picture.name, 1, image.width, image.height)
        layout = reader.line_reader(reader.prompt).upright_layout(image).layout
    lines = tuple(
        Line("", line.quad, block=line.block, baseline=(line.baseline[0], line.baseline[-1]))
        for line in layout.lines
    )
    turns = -layout.upright.quarter_turns % 4  # the finder counts counter-clockwise
    return TextPage(picture.name, 1, image.width, image.height, lines, quarter_turns=turns)


# ---------------------------------------------------------------------------------------------------
# The plugin


def has_tesseract() -> bool:
    """Whether tesseract is installed. Without it OCRmyPDF's own engine refuses every run."""
    return shutil.which("tesseract") is not None


@hookimpl
def initialize(plugin_manager: Any) -> None:
    """Remove tesseract's plugin where tesseract is absent, because it would stop the run."""
    if not has_tesseract():
        plugin_manager.set_blocked(TESSERACT_PLUGIN)


@hookimpl
def add_options(parser: ArgumentParser) -> None:
    """Allow `--ocr-engine nanoocr`, and define tesseract's options where its plugin was removed."""
    for action in parser._actions:  # argparse has no public way to find an option
        if "--ocr-engine" in action.option_strings and action.choices is not None:
            action.choices = [*action.choices, NAME]
    known = {option for action in parser._actions for option in action.option_strings}
    if not has_tesseract() and "--tesseract-timeout" not in known:
        _tesseract_options().add_arguments_to_parser(parser)


@hookimpl
def register_options() -> dict[str, type[BaseModel]]:
    """Register tesseract's options, because OCRmyPDF's core asks for them whatever the engine."""
    return {} if has_tesseract() else {"tesseract": _tesseract_options()}


def _tesseract_options() -> Any:
    from ocrmypdf.builtin_plugins.tesseract_ocr import TesseractOptions

    return TesseractOptions


@hookimpl
def check_options(options: Any) -> None:
    """Refuse options that cannot work, before any page is rendered."""
    if getattr(options, "ocr_engine", "auto") == "tesseract" and not has_tesseract():
        raise MissingDependencyError("tesseract is not installed: choose --ocr-engine nanoocr")


@hookimpl
def get_ocr_engine(options: Any) -> OcrEngine | None:
    """The engine, if the user named it, or named none and there is no other."""
    named = getattr(options, "ocr_engine", "auto") if options is not None else "auto"
    if named == NAME or (named == "auto" and not has_tesseract()):
        return NanoocrEngine()
    return None


class NanoocrEngine(OcrEngine):
    """The engine as OCRmyPDF wants it. It has no state, because OCRmyPDF makes it anew all the time."""

    @staticmethod
    def version() -> str:
        """The version of this package, which OCRmyPDF writes into its log."""
        return _version()

    @staticmethod
    def creator_tag(options: Any) -> str:
        """The name and version that the metadata of the PDF give as its creator."""
        return f"nanoocr {_version()}"

    def __str__(self) -> str:
        return f"nanoocr {_version()}"

    @staticmethod
    def languages(options: Any) -> set[str]:
        """The languages that are installed: none, and OCRmyPDF then checks none."""
        return set()

    @staticmethod
    def get_orientation(input_file: Path, options: Any) -> OrientationConfidence:
        """The rotation, in degrees, that sets the page upright; a page without lines gets no confidence."""
        page = _try(find_lines_for_ocrmypdf, input_file)
        if page.quarter_turns:
            # Few pages are rotated, and a picture without text may look so. Only reading decides it.
            page = _read(input_file)
        # OCRmyPDF counts the rotation that sets the page upright counter-clockwise.
        turns = -90 * page.quarter_turns % 360
        return OrientationConfidence(angle=turns, confidence=SURE if page.lines else UNSURE)

    @staticmethod
    def get_deskew(input_file: Path, options: Any) -> float:
        """The lean of the page's lines, in degrees, that OCRmyPDF is to straighten."""
        return find_lean(_try(find_lines_for_ocrmypdf, input_file).lines)

    @staticmethod
    def supports_generate_ocr() -> bool:
        """Yes: OCRmyPDF then takes our elements directly and need not parse hOCR."""
        return True

    @staticmethod
    def generate_ocr(input_file: Path, options: Any, page_number: int = 0) -> tuple[OcrElement, str]:
        """The page in OCRmyPDF's own tree of elements, and its text."""
        page = _read(input_file)
        return make_element(page, page_number), page.text

    @staticmethod
    def generate_hocr(input_file: Path, output_hocr: Path, output_text: Path, options: Any) -> None:
        """Writes the page as hOCR, and its text in UTF-8 beside it."""
        from nanoocr.formats import hocr

        page = _read(input_file)
        output_hocr.write_bytes(hocr.render([page]))
        output_text.write_text(page.text, encoding="utf-8")

    @staticmethod
    def generate_pdf(input_file: Path, output_pdf: Path, output_text: Path, options: Any) -> None:
        """Writes a PDF that holds only the page's invisible text, and the text in UTF-8 beside it."""
        from nanoocr.formats import pdf

        page = _read(input_file)
        output_pdf.write_bytes(pdf.render_text_only([page]))
        output_text.write_text(page.text, encoding="utf-8")


def _version() -> str:
    from nanoocr.formats.hocr import software

    return software().partition(" ")[2] or "0"


# ---------------------------------------------------------------------------------------------------
# Reading


def _read(picture: Path) -> TextPage:
    """Read the page at the picture's own size and resolution; it is empty where it cannot be read."""
    width, height, dpi = _measure(picture)
    page = clean(_try(read_for_ocrmypdf, picture)).page
    if not page.lines:
        return TextPage(page.file, 1, width, height, dpi=dpi, error=page.error, text=page.text)
    # A huge picture is read at a smaller size, and then has fewer dots per inch.
    return replace(page, page=1, dpi=dpi * page.width / width)


def _try(work: Callable[[Path], PageLike], picture: Path) -> PageLike:
    """Apply `work` to a picture; returns an empty page where that fails.

    For an error on one page OCRmyPDF would give up the whole document, so the error is logged instead.
    """
    empty = TextPage(picture.name, 1, 0, 0)
    try:
        page = work(picture)
    except CheckpointError as error:
        # Without a model no page can be read, so the run has to end here.
        raise MissingDependencyError(str(error)) from error
    except NanoOCRError as error:
        log.error("%s", error)
        return empty
    except Exception:  # any other error would cost all pages too
        log.exception("%s could not be read, its page gets no text", picture.name)
        return empty
    if page.error is not None:
        log.error("%s", page.error)
    return page


def _measure(picture: Path) -> tuple[int, int, float]:
    """(width, height) in pixels and the resolution of a picture file, from its header alone."""
    from PIL import Image

    with Image.open(picture) as image:
        dpi = image.info.get("dpi", (DEFAULT_DPI, DEFAULT_DPI))
        return image.width, image.height, float(dpi[0]) or DEFAULT_DPI


def find_lean(lines: Sequence[Line]) -> float:
    """By how many degrees the page has to be turned counter-clockwise for its lines to be level."""
    leans = []
    for line in lines:
        start, end = baseline_of(line)
        turned = angle((start, end, end, start))
        lean = (turned + 45) % 90 - 45  # lines on their side lean as their page does
        if abs(lean) <= UPRIGHT_LEAN:
            leans.append(lean)
    return median(leans) if leans else 0.0


# ---------------------------------------------------------------------------------------------------
# OCRmyPDF's own page


def make_element(page: TextPage, page_number: int = 0) -> OcrElement:
    """The page as OCRmyPDF's tree. Words are drawn only in this order: page, paragraph, line, word."""
    element = OcrElement(
        ocr_class=OcrClass.PAGE,
        bbox=BoundingBox(0, 0, page.width, page.height),  # a page without a box ends the whole run
        dpi=page.dpi,
        page_number=page_number,
    )
    for block in blocks(page.lines):
        paragraph = OcrElement(ocr_class=OcrClass.PARAGRAPH, bbox=BoundingBox(*hull_of_lines(block)))
        paragraph.children = [_line_element(line) for line in block]
        element.children.append(paragraph)
    return element


def _line_element(line: Line) -> OcrElement:
    box = hull(line.quad)
    element = OcrElement(
        ocr_class=OcrClass.LINE, bbox=BoundingBox(*box), text=line.text, confidence=line.confidence
    )
    turned = quarter(line.quad)
    baseline = baseline_of(line)
    if turned:
        # Counter-clockwise: 90 is a line that reads upwards. Without it OCRmyPDF drops such lines.
        element.textangle = {1: -90.0, 2: 180.0, 3: 90.0}[turned]
    elif abs(angle(line.quad)) >= LEANING:
        fall = slope(baseline)
        start = baseline[0][1] + (box.left - baseline[0][0]) * fall
        element.baseline = Baseline(slope=fall, intercept=start - box.bottom)
    element.children = _word_elements(line, upright=not turned)
    return element


def _word_elements(line: Line, upright: bool) -> list[OcrElement]:
    boxes = [hull(word.quad) for word in line.words]
    elements = []
    for index, (word, box) in enumerate(zip(line.words, boxes, strict=True)):
        right = box.right
        if upright and index + 1 < len(boxes):
            # The gap takes at most a third of a word.
            free = boxes[index + 1].left - GAP * box.height
            right = max(min(right, free), box.right - box.width / 3)
        elements.append(
            OcrElement(
                ocr_class=OcrClass.WORD,
                bbox=BoundingBox(box.left, box.top, right, box.bottom),
                text=word.text,
                confidence=word.confidence,
            )
        )
    return elements
