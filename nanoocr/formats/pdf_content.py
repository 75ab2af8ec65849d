"""What a page of a PDF draws below the text laid over it: saved states, and hidden text of an older reading.

Source: ISO 32000-1, 8.4.2 (the stack of graphics states), 9.3.6 (text rendering mode), 9.4.3 (showing text).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pikepdf

HIDDEN = 3  # the text rendering mode of invisible text
SHOWING = ("Tj", "TJ", "'", '"')  # the operators that show text
MOST_BYTES = 20_000_000  # The commands of larger pages are not looked at, which would take long.


@dataclass(frozen=True)
class OwnContent:
    """The commands of a page or form without its hidden text, and the states that they leave behind.

    `kept` is None where nothing had to be taken off. `lowest` is the smallest depth of the stack of states on
    the way, below zero where more states are restored than were saved; `depth` is the one at the end.
    """

    kept: bytes | None = None
    depth: int = 0
    lowest: int = 0
    has_visible_text: bool = False

    def brackets(self) -> tuple[bytes, bytes]:
        """What has to stand before and behind the commands, so that they leave no state behind."""
        before = 1 - self.lowest
        return b"q " * before, b"Q " * (before + self.depth)


def look_at(content: pikepdf.Page | pikepdf.Object) -> OwnContent:
    """Look through the commands of a page or form. Damaged ones are taken to be in order."""
    import pikepdf

    try:
        if _count_bytes(content) > MOST_BYTES:
            return OwnContent()
        return _sorted_out(pikepdf.parse_content_stream(content))
    except (pikepdf.PdfError, pikepdf.PdfParsingError, ValueError, TypeError, RuntimeError):
        return OwnContent()


def _count_bytes(content: pikepdf.Page | pikepdf.Object) -> int:
    streams: Any = getattr(content, "obj", content)
    streams = streams.get("/Contents", streams)
    listed = streams.as_list() if getattr(streams, "_type_name", "") == "array" else [streams]
    return sum(int(stream.get("/Length", 0)) for stream in listed)


def _sorted_out(commands: Any) -> OwnContent:
    import pikepdf

    kept, modes, mode = [], list[int](), 0
    depth = lowest = 0
    is_visible = is_hidden = False
    for command in commands:
        name = str(command.operator)
        if name == "q":
            depth += 1
            modes.append(mode)
        elif name == "Q":
            depth -= 1
            lowest = min(lowest, depth)
            mode = modes.pop() if modes else mode
        elif name == "Tr":
            mode = int(command.operands[0])
        elif name in SHOWING:
            is_visible = is_visible or mode != HIDDEN
            is_hidden = is_hidden or mode == HIDDEN
            if mode == HIDDEN:
                continue
        kept.append(command)
    return OwnContent(pikepdf.unparse_content_stream(kept) if is_hidden else None, depth, lowest, is_visible)
