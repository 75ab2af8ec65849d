"""Pictures and PDFs as files in memory."""

from __future__ import annotations

import io
import struct
import zlib

import pypdfium2
from PIL import Image, ImageDraw


def picture(seed: int = 0, size: tuple[int, int] = (200, 90)) -> Image.Image:
    image = Image.new("RGB", size, (255, 250 - 60 * seed, 255))
    ImageDraw.Draw(image).rectangle((5 + 20 * seed, 10, 60 + 20 * seed, 60), fill=(40 * seed, 0, 90))
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def pdf(*sizes: tuple[float, float]) -> bytes:
    document = pypdfium2.PdfDocument.new()
    for width, height in sizes:
        document.new_page(width, height)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def encrypted_pdf() -> bytes:
    """A one-page PDF whose standard encryption has a password that nobody knows."""
    values = "<" + "41" * 32 + ">"
    lock = f"/Encrypt<</Filter/Standard/V 1/R 2/O{values}/U{values}/P -44>>"
    return pdf((100, 100)).replace(b"/Root 1 0 R", f"/Root 1 0 R{lock}".encode())


def huge_png(side: int = 60_000) -> bytes:
    """The header of a picture that would fill 10 GB, in 100 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
