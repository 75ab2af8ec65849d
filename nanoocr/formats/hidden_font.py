"""A font without ink: the letters of a hidden text layer take up room, map to Unicode, and draw nothing.

A PDF's text layer needs glyphs of known width that viewers can mark and copy. Any real font would bring its
own widths and lack most scripts. This one has one glyph for each of a few widths; each pair of a text and a
width that a document uses gets a code of its own, and the document's ToUnicode table says what that code
stands for. So every Unicode character works, and the font file stays below a kilobyte.

The glyphs are not quite empty: their outline is a line from corner to corner, which encloses no area. pdfium
takes the height of a text from its outlines, and leaves out text on its side that has none.

Sources: ISO 32000-1, 9.7 (composite fonts) and 9.10.3 (ToUnicode); OpenType 1.9 for the font file's tables.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from nanoocr.errors import OutputError

UNITS = 1000  # units of the em square, as PDF counts glyph space
# Together one em, so that every reader takes the font size for the height of the text.
ASCENT, DESCENT = 800, -200
# Glyph widths in em. A letter takes the nearest one and is stretched by at most half a step to fit: readers
# tell words apart by gaps in relation to the font size, and strong stretching misleads them.
WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
MAX_CODES = 65_535  # two bytes a code


class HiddenFont:
    """Gives out codes while a document's pages are written; afterwards it knows what they stand for."""

    def __init__(self) -> None:
        self.codes: dict[tuple[str, int], int] = {}

    def encode(self, texts: Iterable[str], width: int) -> bytes:
        """Two bytes for each of the texts (mostly single characters); `width` is an index into WIDTHS.

        Raises:
            OutputError: the document has more different characters than two bytes can number.
        """
        return b"".join(struct.pack(">H", self._code(text, width)) for text in texts)

    def _code(self, text: str, width: int) -> int:
        code = self.codes.setdefault((text, width), len(self.codes) + 1)  # code 0 means "no such glyph"
        if code > MAX_CODES:
            raise OutputError("the PDF would need more than 65,535 different characters: write fewer pages")
        return code

    def widths(self) -> list[int]:
        """The widths of codes 1, 2, ... in glyph units."""
        return [round(WIDTHS[width] * UNITS) for _, width in self.codes]

    def glyphs(self) -> bytes:
        """The CIDToGIDMap: two bytes for each code from 0, the number of its glyph in the font file."""
        return struct.pack(f">{len(self.codes) + 1}H", 0, *(width + 1 for _, width in self.codes))

    def to_unicode(self) -> bytes:
        """The CMap that says which text each code stands for."""
        rows = [f"<{code:04x}> <{text.encode('utf-16-be').hex()}>" for (text, _), code in self.codes.items()]
        parts = [
            "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
            "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
            "/CMapName /Hidden def /CMapType 2 def",
            "1 begincodespacerange <0000> <ffff> endcodespacerange",
        ]
        for start in range(0, len(rows), 100):  # the most that one section may hold
            section = rows[start : start + 100]
            parts += [f"{len(section)} beginbfchar", *section, "endbfchar"]
        parts.append("endcmap CMapName currentdict /CMap defineresource pop end end")
        return "\n".join(parts).encode("ascii")


def nearest_width(em: float) -> int:
    """The index of the width that has to be stretched least to become `em`: by 0.75 to 1.5 times."""
    for index, width in enumerate(WIDTHS):
        if em < width * 1.5:
            return index
    return len(WIDTHS) - 1


def font_file() -> bytes:
    """A TrueType file with a glyph for what has no code and one for each of WIDTHS."""
    advances = [UNITS // 2, *(round(width * UNITS) for width in WIDTHS)]
    glyphs = [_glyph(advance) for advance in advances]
    ends = [sum(map(len, glyphs[:index])) for index in range(len(glyphs) + 1)]
    count = len(advances)
    widest = max(advances)
    head = struct.pack(
        ">IIIIHHQQhhhhHHhhh",
        *(0x00010000, 0x00010000, 0, 0x5F0F3CF5, 0, UNITS, 0, 0),
        *(0, DESCENT, widest, ASCENT, 0, 8, 2, 0, 0),
    )
    hhea = struct.pack(
        ">IhhhHhhhhhhhhhhhH", 0x00010000, ASCENT, DESCENT, 0, widest, *(0, 0, 0, 1, 0), *(0,) * 6, count
    )
    maxp = struct.pack(">IH13H", 0x00010000, count, *(2, 1, 0, 0, 1), *(0,) * 8)
    tables = {
        b"cmap": struct.pack(">HHHHI", 0, 1, 3, 0, 12) + _empty_character_map(),
        b"glyf": b"".join(glyphs),
        b"head": head,
        b"hhea": hhea,
        b"hmtx": b"".join(struct.pack(">Hh", advance, 0) for advance in advances),
        b"loca": struct.pack(f">{count + 1}H", *(end // 2 for end in ends)),  # counted in pairs of bytes
        b"maxp": maxp,
    }
    return _pack_tables(tables)


def _glyph(width: int) -> bytes:
    """A glyph of one contour with two points: the lower left and the upper right corner of its box."""
    box = struct.pack(">hhhhh", 1, 0, DESCENT, width, ASCENT)
    # The last point is number 1, there are no instructions, and both points are on the curve.
    points = struct.pack(">HHBB", 1, 0, 1, 1) + struct.pack(">hhhh", 0, width, DESCENT, ASCENT - DESCENT)
    return box + points


def _empty_character_map() -> bytes:
    """A format 4 subtable with only the closing segment: the document's own table gives the glyphs."""
    return struct.pack(">HHHHHHHHHHhH", 4, 24, 0, 2, 2, 0, 0, 0xFFFF, 0, 0xFFFF, 1, 0)


def _pack_tables(tables: dict[bytes, bytes]) -> bytes:
    """The font file: a directory and the tables, each at a multiple of four bytes."""
    count = len(tables)
    power = count.bit_length() - 1
    search = 16 << power
    offset = 12 + 16 * count
    directory, content = [], []
    for tag, table in sorted(tables.items()):
        padded = table + bytes(-len(table) % 4)
        directory.append(struct.pack(">4sIII", tag, _checksum(padded), offset, len(table)))
        content.append(padded)
        offset += len(padded)
    header = struct.pack(">IHHHH", 0x00010000, count, search, power, 16 * count - search)
    file = bytearray(header + b"".join(directory) + b"".join(content))
    # The sum over the whole file has to come out as this constant.
    at = file.index(struct.pack(">I", 0x5F0F3CF5)) - 4
    struct.pack_into(">I", file, at, (0xB1B0AFBA - _checksum(file)) & 0xFFFFFFFF)
    return bytes(file)


def _checksum(data: Sequence[int] | bytes | bytearray) -> int:
    return sum(struct.unpack(f">{len(data) // 4}I", bytes(data))) & 0xFFFFFFFF
