"""The forms in which rows hold a picture: a path, a file: or data: URL, bytes, base64, a struct of these."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

# The keys that may hold a picture: in a part, in the list of pictures, or in Anthropic's `source`.
PICTURE_KEYS = ("image", "image_url", "url", "path", "file_name", "bytes", "base64", "data", "source")
PACKED_KEYS = ("bytes", "base64", "data")  # the values of these keys are bytes, or base64
SHOWN = 60  # an error message shows this many characters of a wrong value
LONGEST_PATH = 4096  # characters; Linux opens no longer path
# How base64 of PNG, JPEG, GIF, WebP, TIFF, PDF and BMP begins. Paths do not begin so and go on without a dot.
PACKED_HEADS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "SUkq", "TU0AK", "JVBERi0", "Qk")
PACKED = re.compile(r"[\w+/=\s-]{60,}")


def picture_of(entry: Any) -> str | bytes:
    """A path, or the encoded picture that lies in the row itself.

    Raises:
        ValueError: it is neither; the message goes on behind the row's name.
    """
    while isinstance(entry, dict):  # {"url": ...} in an image_url, {"bytes": ..., "path": ...} of the hub
        if packed := next((entry[key] for key in PACKED_KEYS if entry.get(key)), None):
            return _packed(packed)
        entry = next((entry[key] for key in PICTURE_KEYS if entry.get(key)), None)
    if isinstance(entry, bytes) and entry:
        return entry
    if not isinstance(entry, str) or not entry:
        raise ValueError(f"a picture is named by {str(entry)[:SHOWN]} and not by a path")
    kind, _, rest = entry.partition(":")
    if kind.lower() == "data":
        return _packed(entry)
    if kind.lower() == "file":
        return _path_of(rest)
    if rest.startswith("//"):
        raise ValueError(f"{entry[:SHOWN]} is no file; fetch it and give its path")
    # No text longer than a path can be one.
    if len(entry) > LONGEST_PATH or (entry.startswith(PACKED_HEADS) and PACKED.fullmatch(entry)):
        return _from_base64(entry)
    return entry


def _path_of(rest: str) -> str:
    """The path in a file: URL. People write it by hand, so that # and ? belong to the name."""
    if rest.startswith("//"):
        # By the rules a.png in file://a.png names a computer, but it is meant for a file beside the row.
        rest = rest[2:].removeprefix("localhost") if rest[2:].startswith("localhost/") else rest[2:]
    path = unquote(rest)
    return path[1:] if re.match(r"/[A-Za-z]:[\\/]", path) else path  # file:///C:/a.png


def _packed(data: Any) -> bytes:
    """The bytes of a data URL, of plain base64, or of a list of numbers."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, list):  # bytes that went through a library without a type for them
        try:
            return bytes(data)
        except (TypeError, ValueError) as error:
            raise ValueError("the bytes of a picture are a list of something else") from error
    if not isinstance(data, str) or data[:5].lower() != "data:":
        return _from_base64(data)
    about, _, body = data.partition(",")
    if about.rstrip().lower().endswith(";base64"):
        return _from_base64(unquote(body))
    return unquote_to_bytes(body)


def _from_base64(data: Any) -> bytes:
    """Decode base64 in either alphabet, with or without padding and line ends, as programs write it."""
    try:
        plain = "".join(data.split()).rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError, AttributeError) as error:
        raise ValueError(f"the bytes of a picture are not base64 ({error})") from error
