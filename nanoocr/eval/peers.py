"""Other engines that read the same pictures, as one small class each.

A peer has a name, reads one picture at a time, and describes itself. To add one, write a class like those
below and put it into PEERS. An engine that is not installed raises a UsageError that says how to install it.
A page that an engine fails on raises a PeerError, which the evaluation counts as an empty answer.

    peer = make_peer("tesseract", threads=1)
    peer.read(image, kind="receipt")
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from nanoocr.document import Line, Word
from nanoocr.errors import NanoOCRError, UsageError
from nanoocr.eval.boxes import TextBox, boxes_of_words, quads, upright_quad


class PeerError(NanoOCRError):
    """An engine failed on a page."""


class Peer(Protocol):
    """An engine that reads one upright RGB picture of a document of some kind (card, receipt, ...)."""

    name: str

    def read(self, image: Image.Image, kind: str) -> str:
        """The text, lines in reading order. Raises PeerError."""
        ...

    def boxes(self, image: Image.Image, kind: str) -> list[TextBox]:
        """The text with its places: a box for each line, or for a part of it. Raises PeerError."""
        ...

    def about(self) -> dict[str, Any]:
        """Plain data: `version`, `weights_bytes` on disk, and every setting that changes what is read."""
        ...


# ---------------------------------------------------------------------------------------------------
# tesseract


# Page segmentation modes: 3 looks for columns, 4 is one column of rows, 6 one block, 7 a line, 8 a word, and
# 11 scattered text. We tried 3, 4, 6 and 11 on synthetic pictures of every kind, with another seed, and took
# the best.
SEGMENTATION = {"document": 3, "photo_document": 3, "form": 4, "table": 4, "formula": 7, "line": 7, "word": 8}
OTHER_SEGMENTATION = 6
# tesseract needs letters of at least some 20 pixels. A picture of fewer pixels than this is read at twice its
# size, which helped with every synthetic kind but scenes.
SMALL = 512 * 512
TIMEOUT = 300.0  # seconds for one page


class Tesseract:
    """The Debian package's program, started anew for each page."""

    name = "tesseract"

    def __init__(self, threads: int = 1, language: str = "eng") -> None:
        """Raises UsageError where the program or the language is not installed."""
        self.language = language
        # Without the limit its OpenMP threads spin while they wait, and take a hundred times longer on a busy
        # machine.
        self.environment = {**os.environ, "OMP_THREAD_LIMIT": str(threads)}
        self.program = shutil.which("tesseract") or ""
        if not self.program:
            raise UsageError(
                f"tesseract is not installed: run `apt-get install tesseract-ocr tesseract-ocr-{language}`"
            )
        self.version = self._run(["--version"]).split("\n")[0].removeprefix("tesseract").strip()
        listed = self._run(["--list-langs"])
        folder = re.search(r'"(.+)"', listed)
        self.weights = Path(folder[1] if folder else "") / f"{language}.traineddata"
        if not self.weights.is_file():
            raise UsageError(
                f"tesseract has no language {language}: run `apt-get install tesseract-ocr-{language}`"
            )

    def read(self, image: Image.Image, kind: str) -> str:
        """The text, line by line. Small pictures are read at twice their size."""
        text = self._read(image, kind)[0]
        # It separates blocks by empty lines, which the truths do not have.
        return re.sub(r"\n{2,}", "\n", text).strip()

    def boxes(self, image: Image.Image, kind: str) -> list[TextBox]:
        """The words, joined where little lies between them."""
        return boxes_of_words(lines_of_tsv(*self._read(image, kind, "tsv")))

    def _read(self, image: Image.Image, kind: str, form: str = "txt") -> tuple[str, int]:
        """Its output for a picture in one of its forms, and the factor by which the picture was enlarged."""
        times = 2 if image.width * image.height < SMALL else 1
        if times > 1:
            image = image.resize((times * image.width, times * image.height), Image.Resampling.BICUBIC)
        stored = io.BytesIO()
        image.save(stored, "PNG", compress_level=1)
        mode = str(SEGMENTATION.get(kind, OTHER_SEGMENTATION))
        flags = ["stdin", "stdout", "-l", self.language, "--psm", mode, form]
        return self._run(flags, stored.getvalue()), times

    def about(self) -> dict[str, Any]:
        """Version, bytes of the language's data, and how pages are segmented."""
        return {
            "version": self.version,
            "weights_bytes": self.weights.stat().st_size,
            "language": self.language,
            "psm": {**SEGMENTATION, "others": OTHER_SEGMENTATION},
            "doubled_below_pixels": SMALL,
        }

    def _run(self, arguments: Sequence[str], data: bytes = b"") -> str:
        try:
            done = subprocess.run(
                [self.program, *arguments],
                input=data,
                capture_output=True,
                timeout=TIMEOUT,
                env=self.environment,
            )
        except subprocess.TimeoutExpired as error:
            raise PeerError(f"tesseract took more than {TIMEOUT:.0f} seconds") from error
        except OSError as error:
            raise PeerError(f"tesseract cannot be started ({error.strerror})") from error
        if done.returncode:
            reason = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise PeerError(f"tesseract ended with code {done.returncode}: {reason[:200]}")
        return done.stdout.decode("utf-8", "replace")


def lines_of_tsv(table: str, times: int = 1) -> list[Line]:
    """The lines of tesseract's own table, with places divided by `times`. Words have level 5 and a text."""
    lines: dict[tuple[str, ...], list[Word]] = {}
    for row in table.splitlines()[1:]:
        level, *numbers, text = (row.split("\t") + [""] * 12)[:12]
        if level == "5" and text.strip():
            left, top, width, height = (int(number) / times for number in numbers[5:9])
            quad = upright_quad(left, top, left + width, top + height)
            lines.setdefault(tuple(numbers[:4]), []).append(Word(text, quad))
    return [
        Line(" ".join(w.text for w in words), words[0].quad, None, tuple(words)) for words in lines.values()
    ]


# ---------------------------------------------------------------------------------------------------
# rapidocr


class RapidOCR:
    """The wheel with PP-OCR's models on onnxruntime, kept in memory. It detects and recognises, no more."""

    name = "rapidocr"

    def __init__(self, threads: int = 1, options: Mapping[str, Any] | None = None) -> None:
        """Start the engine with rapidocr's own `options`, given by their dotted names.

        They are set once, because options that are passed with one picture stay in force for the next.

        Raises:
            UsageError: the package is not installed.
        """
        try:
            import rapidocr
        except ImportError as error:
            raise UsageError(
                "rapidocr is not installed: run `pip install 'nano-deepseek-ocr[peers]'`"
            ) from error
        from importlib.metadata import version

        self.version = version("rapidocr")
        self.models = Path(rapidocr.__file__).parent / "models"
        self.options = dict(options or {})
        self.engine = rapidocr.RapidOCR(
            params={
                # The pictures are upright, and the classifier would wrongly rotate a line now and then.
                "Global.use_cls": False,
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                **self.options,
            }
        )

    def read(self, image: Image.Image, kind: str) -> str:
        """The text in reading order, a line per row of boxes.

        Raises:
            PeerError: the engine failed on the picture.
        """
        boxes, texts = self._found(image)
        if boxes is None:  # It found nothing, or it read the picture as a whole without looking for boxes.
            return " ".join(texts or ())
        return "" if texts is None else "\n".join(lines_of_boxes(np.asarray(boxes), texts))

    def boxes(self, image: Image.Image, kind: str) -> list[TextBox]:
        """Its boxes as they are. Raises PeerError."""
        boxes, texts = self._found(image)
        corners = quads(boxes if boxes is not None else [])
        return [TextBox(quad, text) for quad, text in zip(corners, texts or ())]

    def _found(self, image: Image.Image) -> tuple[Any, Any]:
        try:
            found = self.engine(image)
        except Exception as error:  # whatever a foreign engine raises, it has failed on the page
            raise PeerError(f"rapidocr: {type(error).__name__}: {error}") from error
        return getattr(found, "boxes", None), getattr(found, "txts", None)

    def about(self) -> dict[str, Any]:
        """Version and bytes of the models that read. The one that rotates lines is switched off."""
        used = [path for path in sorted(self.models.glob("*.onnx")) if "_cls_" not in path.name]
        return {
            "version": self.version,
            "weights_bytes": sum(path.stat().st_size for path in used),
            "models": [path.name for path in used],
            "direction_classifier": False,
            **({"options": self.options} if self.options else {}),
        }


# By default the detector enlarges every picture until its shorter side has 736 pixels. It sees a card of 384
# x 192 as 1472 x 736, cuts strips into pieces, and takes ten times as long or more. This setting suits
# pictures of any size: the longer side has at most 960 pixels, and nothing is enlarged.
UP_TO_960 = {"Det.limit_type": "max", "Det.limit_side_len": 960}
NO_DETECTION = {"Global.use_det": False}  # only the recogniser, for pictures of one line


# ---------------------------------------------------------------------------------------------------
# PP-OCR in faster-paddle


class FasterPaddle:
    """PP-OCRv6 in the wheel of faster-paddle, a Rust engine. Its order of lines is kept."""

    def __init__(self, threads: int = 1, size: str = "tiny") -> None:
        """`size` is tiny or small. Raises UsageError where the package is not installed."""
        try:
            import faster_paddle
        except ImportError as error:
            raise UsageError(
                "faster-paddle is not installed: run `pip install 'nano-deepseek-ocr[peers]'`"
            ) from error
        from importlib.metadata import version

        self.name, self.size = f"ppocr_{size}", size
        self.version = version("faster-paddle")
        self.engine = faster_paddle.OcrEngine(model_size=size, threads=threads)

    def read(self, image: Image.Image, kind: str) -> str:
        """The text, line by line. The engine wants an encoded file, so a PNG is made for it.

        Raises:
            PeerError: the engine failed on the picture.
        """
        text = str(self._found(image)["structured_text"])
        # It lays the page out with blanks and empty lines, which the truths do not have.
        return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())

    def boxes(self, image: Image.Image, kind: str) -> list[TextBox]:
        """Its boxes, which are upright. Raises PeerError."""
        found = self._found(image)["bounds"].values()
        corners = [(*one["topLeftCoord"], *one["bottomRightCoord"]) for one in found]
        return [TextBox(upright_quad(*place), one["text"]) for place, one in zip(corners, found)]

    def _found(self, image: Image.Image) -> dict[str, Any]:
        stored = io.BytesIO()
        image.save(stored, "PNG", compress_level=1)
        try:
            found: dict[str, Any] = self.engine.ocr(stored.getvalue())
        except Exception as error:  # whatever a foreign engine raises, it has failed on the page
            raise PeerError(f"{self.name}: {type(error).__name__}: {error}") from error
        return found

    def about(self) -> dict[str, Any]:
        """Version, and the models' bytes as the package's page gives them: they are inside its library."""
        return {
            "version": self.version,
            "weights_bytes": FASTER_PADDLE_BYTES[self.size],
            "models": f"PP-OCRv6 {self.size}, inside the library",
        }


FASTER_PADDLE_BYTES = {"tiny": 6_000_000, "small": 31_000_000}


def lines_of_boxes(boxes_N42: np.ndarray, texts: Sequence[str]) -> list[str]:
    """Join the texts of N boxes, corners (N, 4, 2) in pixels, to lines: top to bottom, left to right.

    A box joins the line above it if their centres are less than half a box height apart.
    """
    tops, bottoms = boxes_N42[..., 1].min(1), boxes_N42[..., 1].max(1)
    centres, heights, lefts = (tops + bottoms) / 2, bottoms - tops, boxes_N42[..., 0].min(1)
    lines: list[list[int]] = []
    for i in np.argsort(centres, kind="stable"):
        last = lines[-1] if lines else []
        if last and centres[i] - np.mean(centres[last]) < 0.5 * min(heights[i], np.mean(heights[last])):
            last.append(int(i))
        else:
            lines.append([int(i)])
    return [" ".join(texts[i] for i in sorted(line, key=lambda i: lefts[i])) for line in lines]


PEERS: dict[str, Callable[[int], Peer]] = {
    "tesseract": Tesseract,
    "rapidocr": RapidOCR,
    "rapidocr_960": lambda threads: RapidOCR(threads, UP_TO_960),
    "rapidocr_line": lambda threads: RapidOCR(threads, NO_DETECTION),
    "ppocr_tiny": lambda threads: FasterPaddle(threads, "tiny"),
    "ppocr_small": lambda threads: FasterPaddle(threads, "small"),
}


def make_peer(name: str, threads: int = 1) -> Peer:
    """The peer called `name`, ready to read with so many threads.

    Raises:
        UsageError: there is no such peer, or it is not installed (it says how to install it).
    """
    if name not in PEERS:
        raise UsageError(f"unknown peer {name!r}: choose one of {', '.join(PEERS)}")
    return PEERS[name](threads)
