"""Word lists of a dozen languages, found on the machine at run time like the fonts; none is shipped.

`bash runs/fonts.sh` installs Debian's dictionary packages. Where they are missing, the English words of the
package stand in, and a model that is trained there sees few accents.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from nanoocr.alphabet import CLASS_OF, written_one_way
from nanoocr.data.synth import words

FOLDERS = ("/usr/share/dict", "/usr/share/hunspell")
# Languages and the files that may hold them: plain word lists, and Hunspell's, whose words end at a slash.
FILES: dict[str, tuple[str, ...]] = {
    "english": ("american-english", "british-english"),
    "german": ("ngerman", "ogerman", "de_DE.dic"),
    "french": ("french", "fr_FR.dic"),
    "spanish": ("spanish", "es_ES.dic"),
    "italian": ("italian", "it_IT.dic"),
    "portuguese": ("portuguese", "brazilian"),
    "dutch": ("dutch", "nl.dic"),
    "polish": ("polish", "pl_PL.dic"),
    "czech": ("czech", "cs_CZ.dic"),
    "danish": ("danish", "da_DK.dic"),
    "swedish": ("swedish", "sv_SE.dic"),
    "norwegian": ("bokmaal", "norwegian", "nb_NO.dic"),
    "icelandic": ("icelandic", "is.dic", "is_IS.dic"),
    "turkish": ("turkish", "tr_TR.dic"),
}
MOST_WORDS = 40_000  # Longer lists keep every n-th word, so that words with all initials stay.
LONGEST_WORD = 20  # letters


@functools.lru_cache(maxsize=1)
def find_languages() -> dict[str, tuple[str, ...]]:
    """Words by language, for those whose list is on this machine; always at least English."""
    found = {language: _words(paths) for language, names in FILES.items() if (paths := _paths(names))}
    english = tuple(words.NOUNS + words.VERBS + words.ADJECTIVES)
    return {"english": found.pop("english", english), **found}


def _paths(names: Sequence[str]) -> list[str]:
    """The first of the files that is there, as a list of one."""
    every = (os.path.join(folder, name) for name in names for folder in FOLDERS)
    return [path for path in every if os.path.isfile(path)][:1]


def _words(paths: Sequence[str]) -> tuple[str, ...]:
    """The usable words of a list, thinned out evenly."""
    lines = _decoded(Path(paths[0])).splitlines()
    # Thinned before anything else, because some lists have millions of forms.
    lines = lines[:: 1 + len(lines) // MOST_WORDS]
    words_found = (written_one_way(line.split("/")[0].strip()) for line in lines)
    return tuple(word for word in words_found if _is_usable(word))


def _decoded(path: Path) -> str:
    """The text of a list: in UTF-8, else in what its Hunspell rules name, else in Latin-1."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        rules = path.with_suffix(".aff")
        named = re.search(rb"^SET (\S+)", rules.read_bytes(), re.MULTILINE) if rules.is_file() else None
        encoding = named[1].decode("ascii") if named else "latin-1"
        return data.decode(encoding.replace("ISO8859", "iso-8859"), "replace")


def _is_usable(word: str) -> bool:
    return 0 < len(word) <= LONGEST_WORD and word[0].isalpha() and all(char in CLASS_OF for char in word)
