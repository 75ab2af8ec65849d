"""Fonts for synthetic documents, found on the machine at run time; none is shipped.

Sources, in this order: the TrueType files inside matplotlib's package (when it is installed), then
/usr/share/fonts, which `bash runs/fonts.sh` fills with about fifty Debian packages. A font is used when it
really draws every printable ASCII character and is an ordinary upright or italic text face.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

from nanoocr.data.synth.text import VISIBLE
from nanoocr.errors import UsageError

# These two, one sans and one serif of ordinary shape, never appear in training. Relatives of theirs (Open
# Sans Condensed, PT Serif Caption) are kept out of training as well, because they share most of the outlines.
HELD_OUT_FAMILIES = ("Open Sans", "PT Serif")

SYSTEM_FOLDER = "/usr/share/fonts"
SUFFIXES = (".ttf", ".otf")
STYLES_PER_FAMILY = 4

# Families (by the start of their name) that draw ASCII as symbols, ornaments, small capitals or script.
EXCLUDED_FAMILIES = (
    "cmb10", "cmex10", "cmmi10", "cmr10", "cmss10", "cmsy10", "cmti10", "cmtt10", "STIXNonUni", "STIXSize",
    "DejaVu Math", "DejaVu Sans Display", "DejaVu Serif Display", "Last Resort", "D050000L",
    "Standard Symbols", "Z003", "Linux Biolinum Keyboard", "Linux Libertine Initials",
    "Romande ADF Script", "Romande ADF Style", "Go Smallcaps", "CMU Classical Serif", "Karla Tamil",
    "Clear Sans Thin",
    "Tuffy",  # its capital i equals its vertical bar
)  # fmt: skip
EXCLUDED_STYLES = (
    "thin",
    "hairline",
    "extralight",
    "extra light",
    "outline",
    "inverted",
    "initials",
    "display",
)
# In a family with many weights these styles come first; the others fill the remaining places.
PREFERRED_STYLES = (
    ("regular", "book", "roman", "medium"),
    ("bold", "demi", "semibold", "demibold"),
    ("italic", "oblique", "book oblique", "light italic"),
    (
        "bold italic",
        "bold oblique",
        "bolditalic",
        "boldoblique",
        "bold-italic",
        "demi italic",
        "demi oblique",
    ),
)


@dataclass(frozen=True, order=True)
class Font:
    """One face: family and style as the file itself names them, and where the file is."""

    family: str
    style: str
    path: str


Styles = dict[str, list[Font]]  # the styles of a family, and the copies of each in the order found


@functools.lru_cache(maxsize=8)
def find_fonts(*, held_out: bool = False, folders: tuple[str, ...] | None = None) -> tuple[Font, ...]:
    """Fonts fit for synthetic text, sorted by family and style; at most four styles of a family.

    `held_out=False` leaves out HELD_OUT_FAMILIES and their relatives, `held_out=True` returns only those
    families. `folders` replaces the default places. The same files always give the same tuple. Only the
    styles that may be taken are checked, which takes some two seconds for a thousand files, once per process.

    Raises UsageError, naming the packages to install, when nothing usable is found.
    """
    places = default_folders() if folders is None else folders
    by_family: dict[str, Styles] = {}
    for font in _faces(places):
        if _is_wanted(font, held_out):
            by_family.setdefault(font.family, {}).setdefault(font.style, []).append(font)
    fonts = [font for styles in by_family.values() for font in _leading_styles(styles)]
    if not fonts:
        raise UsageError(_no_fonts_message(held_out, places))
    return tuple(sorted(fonts))


def default_folders() -> tuple[str, ...]:
    """matplotlib's font folder, when it is installed, then the system's."""
    spec = importlib.util.find_spec("matplotlib")  # finds the package without paying for its import
    if spec is None or spec.origin is None:
        return (SYSTEM_FOLDER,)
    return (str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"), SYSTEM_FOLDER)


def families(fonts: Sequence[Font]) -> tuple[str, ...]:
    """The different families among `fonts`, sorted."""
    return tuple(sorted({font.family for font in fonts}))


def _faces(folders: Sequence[str]) -> Iterator[Font]:
    for folder in folders:
        for path in _font_files(folder):
            try:
                family, style = ImageFont.truetype(path, 20, layout_engine=ImageFont.Layout.BASIC).getname()
            except OSError:  # FreeType cannot read the file, so it is no font for us.
                continue
            yield Font(family or Path(path).stem, style or "Regular", path)


def _font_files(folder: str) -> list[str]:
    found = []
    for root, _, names in os.walk(folder, followlinks=True):
        found += [os.path.join(root, name) for name in names if name.lower().endswith(SUFFIXES)]
    return sorted(found)


def _is_wanted(font: Font, held_out: bool) -> bool:
    if held_out and font.family not in HELD_OUT_FAMILIES:
        return False
    if not held_out and font.family.startswith(HELD_OUT_FAMILIES):
        return False
    if font.family.startswith(EXCLUDED_FAMILIES):
        return False
    return not any(word in font.style.lower() for word in EXCLUDED_STYLES)


@functools.lru_cache(maxsize=4096)
def draws_ascii(path: str) -> bool:
    """Whether the font draws each of the 94 printable ASCII characters with a visible glyph of its own.

    Fonts whose small letters look like capitals fail too, because no picture could tell the two apart.
    """
    face = ImageFont.truetype(path, 24, layout_engine=ImageFont.Layout.BASIC)
    # No character has this code point, so the font draws its box for missing characters.
    missing = _ink(face, "\U0010fffe")
    glyphs = {}
    for char in VISIBLE:
        glyphs[char] = _ink(face, char)
        if glyphs[char] == missing or not any(glyphs[char][1]):
            return False
    return all(glyphs[char] != glyphs[char.upper()] for char in "abdefghmnqrty")


def _ink(face: ImageFont.FreeTypeFont, char: str) -> tuple[tuple[int, int], bytes]:
    mask = face.getmask(char, mode="L")
    return mask.size, bytes(mask)


def _leading_styles(styles: Styles) -> list[Font]:
    """At most STYLES_PER_FAMILY faces, so that a family in 18 weights is not seen 18 times as often."""
    chosen: list[Font] = []
    for names in PREFERRED_STYLES:
        matches = (style for name in names for style in styles if style.lower() == name)
        chosen += _first_usable(styles, matches)
    for style in sorted(styles):
        if len(chosen) < STYLES_PER_FAMILY and all(font.style != style for font in chosen):
            chosen += _first_usable(styles, [style])
    return chosen


def _first_usable(styles: Styles, names: Iterable[str]) -> list[Font]:
    """The first font of these styles that draws all of ASCII, or none."""
    usable = (font for name in names for font in styles[name] if draws_ascii(font.path))
    return list(itertools.islice(usable, 1))


def _no_fonts_message(held_out: bool, folders: Sequence[str]) -> str:
    places = " or ".join(folders)
    if held_out:
        families_text = " and ".join(HELD_OUT_FAMILIES)
        return (
            f"None of the held-out families {families_text} is in {places}: "
            "run `apt-get install fonts-open-sans fonts-paratype`, or `bash runs/fonts.sh` for all of them."
        )
    return (
        f"No usable font is in {places}: run `pip install matplotlib` (it brings a few), "
        "`apt-get install fonts-dejavu-core fonts-liberation`, or `bash runs/fonts.sh` for all of them."
    )
