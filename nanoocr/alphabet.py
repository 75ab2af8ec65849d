"""The characters that the glyph heads name and that synthetic text is made of.

They are what English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Czech, the Nordic
languages and Turkish print. Characters that fonts draw alike are written one way, by rule, since no
picture can decide between them (`SAME_INK`).
"""

from __future__ import annotations

import string
import unicodedata
from types import MappingProxyType

ASCII = string.printable[:-5]  # printable ASCII with the space, in an order that `CHARACTERS` mends
LATIN_1 = "¡¢£¥§©«®°±²³µ¶·¹»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ"
LATIN_A = "ĄąĆćĘęŁłŃńŚśŹźŻżČčĎďĚěŇňŘřŠšŤťŮůŽžĞğİıŞşŒœŸ"
SIGNS = "‘’“”„–—•…€™‹›†‡‰"
CHARACTERS = "".join(sorted(ASCII)) + LATIN_1 + LATIN_A + SIGNS  # ASCII first, in its own order

# What is drawn like another character, and that character: the truth holds the second one.
SAME_INK = MappingProxyType(
    {
        "\u00a0": " ",  # spaces of other widths
        "\u2009": " ",
        "\u202f": " ",
        "\u2007": " ",
        "\u00ad": "-",  # hyphens that only line ends show
        "\u2010": "-",
        "\u2011": "-",
        "\u2212": "–",  # minus, as wide as an en dash
        "\u2015": "—",
        "‚": ",",  # a low quote is a comma
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

# 0 is "no character here"; printable ASCII keeps 1 + (code - 32).
CLASS_OF = MappingProxyType({char: 1 + place for place, char in enumerate(CHARACTERS)})


def written_one_way(text: str) -> str:
    """`text` with every character of SAME_INK as its twin."""
    return "".join(SAME_INK.get(char, char) for char in text)


CAPITALS, SMALL = "capitals", "small"
LETTERS = (CAPITALS, SMALL)  # what a model's texts may be written in, whatever the print is; "" is as printed


def written_in(text: str, letters: str) -> str:
    """`text` in "capitals" or in "small" letters; with "" as it is."""
    return text.upper() if letters == CAPITALS else text.lower() if letters == SMALL else text


def plain_twin(char: str) -> str:
    """The ASCII letter under the marks of `char` (é -> e), or "" where there is none."""
    base = unicodedata.normalize("NFKD", char)[:1]
    return base if base.isascii() else ""
