"""The characters of synthetic text, which are also the classes of the glyph heads.

They cover printed English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Czech, Turkish and
the Nordic languages. If fonts draw several characters alike, one of them stands for all (`SAME_INK`), because
no picture can tell them apart.
"""

from __future__ import annotations

import string
import unicodedata
from types import MappingProxyType

ASCII = string.printable[:-5]  # printable ASCII with the space; `CHARACTERS` sorts it
LATIN_1 = "¡¢£¥§©«®°±²³µ¶·¹»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ"
LATIN_A = "ĄąĆćĘęŁłŃńŚśŹźŻżČčĎďĚěŇňŘřŠšŤťŮůŽžĞğİıŞşŒœŸ"
SIGNS = "‘’“”„–—•…€™‹›†‡‰"
CHARACTERS = "".join(sorted(ASCII)) + LATIN_1 + LATIN_A + SIGNS  # ASCII first, by code

# Maps a character to another one that looks the same; the truth uses the second.
SAME_INK = MappingProxyType(
    {
        "\u00a0": " ",  # spaces of other widths
        "\u2009": " ",
        "\u202f": " ",
        "\u2007": " ",
        "\u00ad": "-",  # hyphens that show only at line ends
        "\u2010": "-",
        "\u2011": "-",
        "\u2212": "–",  # a minus, as wide as an en dash
        "\u2015": "—",
        "‚": ",",  # a low quote looks like a comma
        "´": "’",
        "ʼ": "’",
        "º": "°",
        "ª": "a",
        "¸": ",",
        "¨": '"',
        "‒": "–",
        "∙": "·",
        "●": "•",
        "ﬁ": "fi",  # ligatures
        "ﬂ": "fl",
        "ﬀ": "ff",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
    }
)

# Class 0 means "no character here". Printable ASCII has the classes 1 + (code - 32).
CLASS_OF = MappingProxyType({char: 1 + place for place, char in enumerate(CHARACTERS)})


def written_one_way(text: str) -> str:
    """Replace every character of SAME_INK in `text` by its look-alike."""
    return "".join(SAME_INK.get(char, char) for char in text)


CAPITALS, SMALL = "capitals", "small"
LETTERS = (CAPITALS, SMALL)  # what a model's texts may be written in, whatever the print is; "" is as printed


def written_in(text: str, letters: str) -> str:
    """`text` in "capitals" or in "small" letters; with "" as it is."""
    return text.upper() if letters == CAPITALS else text.lower() if letters == SMALL else text


def plain_twin(char: str) -> str:
    """The ASCII letter below the marks of `char` (é -> e), or "" where there is none."""
    base = unicodedata.normalize("NFKD", char)[:1]
    return base if base.isascii() else ""
