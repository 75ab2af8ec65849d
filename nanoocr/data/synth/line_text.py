"""Draws the text for a line of a real page: prose in many languages, receipts, forms, addresses, noise.

Nearly half of the text cannot be guessed. The characters are those of nanoocr.alphabet. Where a font lacks
some of them, `drawable_text` replaces them.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Collection

from nanoocr.alphabet import CLASS_OF, LATIN_1, LATIN_A, plain_twin, written_one_way
from nanoocr.data.synth import text, words
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.languages import find_languages
from nanoocr.data.synth.words import listed

QUOTES = ("“”", "‘’", "„“", "«»", '""', "''", "()", "()", "[]", "‹›")
ENDS = (".", ".", ".", ",", ",", ";", ":", "!", "?", "…", " –", " —", "-")
MARKS = "...,,;:"  # marks that may follow a word or number; common ones appear several times
JOINS = (" ", " ", " ", " ", " – ", " — ", " • ", " · ", " | ", " / ", " & ", " + ", " - ")
CURRENCIES = ("", "", "$", "€", "£", "RM", "RM ", "USD ", "EUR ", "CHF ", "¥", "kr ", "zł ", "Kč ")
UNITS = listed("kg g ml cl l pcs pc x m cm mm km % °C °F kWh MB GB h min Stk St")
LABELS = listed(
    "Total TOTAL Subtotal SUBTOTAL Tax GST VAT MwSt TVA IVA Cash CASH Change CHANGE Rounding Amount "
    "AMOUNT Invoice INVOICE No No. Nr. Nº Date DATE Time Tel TEL Fax FAX Qty QTY Price PRICE Item ITEM "
    "Disc Discount Balance Due Paid Visa VISA Mastercard Cashier Member Ref Bill Table Receipt RECEIPT "
    "Description Code Ship To From Name NAME Address Signature Page Fig. Figure Section Chapter Vol. "
    "Brand BRAND Account Company Title Subject Approved Copies Phone Email Attn Order Customer Unit "
    "Size Weight Net NET Gross Round"
)
STREETS = listed(
    "Street Road Avenue Lane Jalan JALAN Lorong Strasse straße rue Via Calle Rua Plaza Square gade vej"
)
SUFFIXES = listed("Ltd Ltd. LTD Inc. GmbH AG S.A. SDN BHD (M) Bhd. Co. CO. LLC plc Corp. & Sons Oy AB A/S")
SIGNS_ALONE = listed(
    "* # - – • RM $ € £ % @ + = & / : x X 1 0 2 3 5 A B C I l a e o i ( ) ! ? § © ® ™ ° ½ ¼ ¾ × 00 SR Z"
)

MARKED = "".join(char for char in LATIN_1 + LATIN_A if char.isalpha())


def line_text(dice: Dice, room: int) -> tuple[str, bool]:
    """About `room` characters for one line, and whether they are natural language."""
    parts: list[str] = []
    guessable = dice.chance(0.55)
    if room <= 3 and dice.chance(0.6):
        return dice.pick(SIGNS_ALONE), False
    choices = NATURAL if guessable else RANDOM
    while sum(map(len, parts)) + len(parts) < room:
        part = dice.pick(choices)(dice)
        # Marks follow brackets, figures and signs too, where no language would lead a reader to expect them.
        marked = dice.chance(0.2) and (part[-1].isalnum() or part[-1] in ")]’”\"'%€")
        parts.append(part + dice.pick(MARKS) if marked else part)
    line = " ".join(parts)
    if len(line) > room:
        line = line[: max(room, 1)]
        if " " in line and dice.chance(0.85):  # most strips end between words
            line = line.rpartition(" ")[0]
    line = " ".join(written_one_way(line).split()) or "-"
    return (in_capitals(line) if dice.chance(0.22) else line), guessable


def in_capitals(line: str) -> str:
    """`line` in capitals, but for letters whose capital is outside the alphabet (that of µ is Greek)."""
    capitals = ((char, char.upper()) for char in line)
    return "".join(upper if all(c in CLASS_OF for c in upper) else char for char, upper in capitals)


# --- prose ------------------------------------------------------------------------------------------


def prose(dice: Dice) -> str:
    """A few words of one language in a row, with the marks and capitals of running text."""
    languages = find_languages()
    # Most scans are English. With too many other languages a model sees accents in bad print.
    language = "english" if dice.chance(0.65) else dice.pick(list(languages))
    vocabulary = languages[language]
    if language == "english" and dice.chance(0.5):  # A dictionary alone contains few common words.
        vocabulary = tuple(words.FORMAL)
    run = [dice.pick(vocabulary) for _ in range(dice.whole(1, 6))]
    if language == "english" and dice.chance(0.6):  # Real lines are full of function words.
        run = [word for pair in zip(run, (dice.pick(words.LINKS) for _ in run)) for word in pair]
    style = dice.unit()
    if style < 0.25:
        run = [word.capitalize() for word in run]
    elif style < 0.5:
        run[0] = run[0].capitalize()
    elif style < 0.56:
        run = [in_capitals(word) for word in run]
    if dice.chance(0.12):
        place, quotes = dice.whole(0, len(run) - 1), dice.pick(QUOTES)
        run[place] = quotes[0] + run[place] + quotes[1] + (dice.pick(MARKS) if dice.chance(0.5) else "")
    if dice.chance(0.1):
        place = dice.whole(0, len(run) - 1)
        run[place] += dice.pick(("’s", "'s", "’t", "-" + dice.pick(vocabulary)))
    joined = dice.pick(JOINS).join(run) if dice.chance(0.1) else " ".join(run)
    return joined + dice.pick(ENDS) if dice.chance(0.4) else joined


def numbered(dice: Dice) -> str:
    """The head of a list entry, a section or a footnote."""
    number = dice.whole(1, 99)
    head = dice.pick(("{}.", "{})", "({})", "[{}]", "§ {}", "{}.1", "{}", "•", "–", "Fig. {}:", "p. {}", "*"))
    return head.format(number) + " " + prose(dice)


def cited(dice: Dice) -> str:
    """A piece of a citation: `[15].`, `(2011),`, `et al. [3]`, `M. R. Cooper`, `pp. 381–389,`."""
    name, year = dice.pick(words.LAST_NAMES), dice.whole(1950, 2026)
    first, second = (dice.pick(string.ascii_uppercase) for _ in range(2))
    low = dice.whole(1, 999)
    high, mark = low + dice.whole(1, 30), dice.pick(MARKS)
    return dice.pick(
        (
            f"[{low}]{mark}", f"[{low}]{mark}", f"[{low}, {high}]{mark}", f"[{low}-{high}]{mark}",
            f"({year}){mark}", f"({year}){mark}", f"({name}, {year}){mark}", f"({name} et al., {year}){mark}",
            f"{name} et al. ({year}){mark}", f"{name}, {first}. {second}.{mark.strip('.')}",
            f"{first}. {second}. {name}{mark}", f"{first}.{second}. {name}", f"pp. {low}–{high}{mark}",
            f"{low}-{high}{mark}", f"{low} ({year % 100}), {high}{mark}", f"Vol. {low}{mark}",
            f"No. {low}{mark}", f"Fig. {low}{mark}", f"Table {low}{mark}", f"Eq. ({low}){mark}",
            f"e.g.{mark}", f"i.e. {name}{mark}",
        )
    )  # fmt: skip


def address(dice: Dice) -> str:
    """A piece of a postal address or the name of a firm."""
    place, number = dice.pick(words.PLACES), dice.whole(1, 399)
    form = dice.whole(0, 4)
    if form == 0:
        return f"{number} {place} {dice.pick(STREETS)},"
    if form == 1:
        return f"No. {number}, {dice.pick(STREETS)} {place}, {dice.whole(1000, 99999)}"
    if form == 2:
        return f"{dice.pick(words.LAST_NAMES)} {dice.pick(words.SHOPS)} {dice.pick(SUFFIXES)}"
    if form == 3:
        return f"{dice.whole(10000, 99999)} {place}"
    state = dice.pick(string.ascii_uppercase) + dice.pick(string.ascii_uppercase)
    return f"{place}, {state} {dice.whole(1, 99999):05d}"


# --- receipts, forms, tables -----------------------------------------------------------------------------


def amount(dice: Dice) -> str:
    """Money as printed: with or without sign, comma or point, minus or brackets."""
    value = f"{dice.whole(0, 10 ** dice.whole(1, 4))}{dice.pick('...,')}{dice.whole(0, 99):02d}"
    value = dice.pick(CURRENCIES) + value
    return dice.pick(
        ("{}", "{}", "{}", "{}", "-{}", "({})", "{}-", "{} €", "{} SR", "{}*", "@{}", "{}%")
    ).format(value)


def labelled(dice: Dice) -> str:
    """A label and its value: `Total: 12.50`, `Date 04/05/2019`."""
    value = dice.pick((amount, amount, text.date, text.clock_time, text.code, text.number, text.phone))(dice)
    colon = dice.pick(("", ":", ":", " :", ".", " #", " ......", " ="))
    return f"{dice.pick(LABELS)}{colon} {value}"


def glued(dice: Dice) -> str:
    """Words, signs and numbers without blanks between them: `Tax(RM)`, `S(6%)`, `QTY:2`, `12@3.50`."""
    word = dice.pick((_label, text.random_word, _common_word))(dice)
    short = "".join(dice.pick(string.ascii_uppercase) for _ in range(dice.whole(1, 3)))
    number, other = dice.whole(0, 99), dice.pick((_label, _common_word))(dice)
    return dice.pick(
        (
            f"{word}({short})", f"{word}({short})", f"({short}){word}", f"{short}({number}%)",
            f"{word}({other})",
            f"{word}:{number}", f"{word}:{other}", f"{word}/{other}", f"{word}/{short}", f"{word}-{other}",
            f"{word},{other}", f"{word}.{other}", f"{word}&{other}", f"{word}#{number}", f"{word}-{number}",
            f"{number}{short}({short})", f"{number}@{amount(dice)}", f"{number}X{amount(dice)}",
            f"{short}-{number}/{short}", f"*{word}*", f"{short}.{short}.{short}.", f"{number}%{word}",
        )
    )  # fmt: skip


def _label(dice: Dice) -> str:
    return dice.pick(LABELS)


def _common_word(dice: Dice) -> str:
    word = dice.pick(words.FORMAL)
    return dice.pick((word, word.capitalize(), word.upper()))


def entry(dice: Dice) -> str:
    """A row of a receipt or a table."""
    kind = dice.whole(0, 2)
    goods = find_languages()["english"] if kind == 2 else words.GOODS
    cells = [dice.pick(goods) if kind else text.random_word(dice)]
    if dice.chance(0.5):
        cells.append(
            f"{dice.whole(1, 99)} {dice.pick(UNITS)}" if dice.chance(0.5) else str(dice.whole(1, 12))
        )
    cells += [amount(dice) for _ in range(dice.whole(0, 2))]
    return " ".join(cells)


def digits(dice: Dice) -> str:
    """A long run of digits, like account numbers and bar codes."""
    return "".join(dice.pick(string.digits) for _ in range(dice.whole(3, 14)))


def letters(dice: Dice) -> str:
    """Random letters in mixed case, unlike any language."""
    low, high = (2, 5) if dice.chance(0.5) else (1, 10)
    return "".join(dice.pick(string.ascii_letters) for _ in range(dice.whole(low, high)))


def signed(dice: Dice) -> str:
    """A word or number among signs that ASCII lacks, or between brackets."""
    sign = dice.pick("•–—…€£°§©®™½¼¾±×÷«»¿¡·¶µ²³¢¥‰†")
    core = dice.pick((text.random_word, text.number, digits, letters))(dice)
    return dice.pick(("{1}{0}", "{0}{1}", "{0} {1}", "{1} {0}", "{0} {1} {0}")).format(core, sign)


def signs(dice: Dice) -> str:
    """ASCII signs in a row, or around and between letters, like codes, passwords and programs."""
    run = "".join(dice.pick(string.punctuation) for _ in range(dice.whole(1, 4)))
    core = dice.pick((text.random_word, text.number, letters))(dice)
    return dice.pick(("{0}", "{0}{1}", "{1}{0}", "{1}{0}{1}", "{0}{1}{0}")).format(run, core)


def accented(dice: Dice) -> str:
    """Letters with marks, at random."""
    run = [dice.pick(MARKED if dice.chance(0.4) else string.ascii_lowercase) for _ in range(dice.whole(2, 9))]
    return "".join(run)


NATURAL: tuple[Callable[[Dice], str], ...] = (
    prose, prose, prose, prose, prose, prose, numbered, cited, address, text.sentence, text.natural_phrase,
    text.full_name,
)  # fmt: skip
RANDOM: tuple[Callable[[Dice], str], ...] = (
    text.random_token, text.random_token, text.random_token, labelled, labelled, labelled, entry, entry,
    amount, amount, digits, digits, letters, letters, letters, glued, glued, glued, text.code, text.date,
    signed, signs, accented, cited, address, text.random_word, text.phone,
)  # fmt: skip


def drawable_text(line: str, drawable: Collection[str]) -> str:
    """`line` with characters that a font lacks replaced by their plain letters, or left out."""
    if all(char in drawable for char in line):
        return line
    kept = "".join(char if char in drawable else plain_twin(char) for char in line)
    return " ".join(kept.split()) or "-"
