"""Writes the text of synthetic pages: natural phrases, and text that nobody could guess.

A model that sees only natural language learns to complete words instead of looking at them. So half of the
text is random: words from no language, numbers, prices, dates, codes, addresses, loose symbols.
Everything is printable ASCII, without leading, trailing or double spaces.
"""

from __future__ import annotations

import string
from collections.abc import Callable

from nanoocr.data.synth import words
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.words import listed

LETTERS = string.ascii_letters
CODE_SIGNS = string.ascii_uppercase + string.digits
SYMBOLS = string.punctuation
VISIBLE = LETTERS + string.digits + SYMBOLS  # printable ASCII but for the space
# In many sans faces capital i and small L are the same stroke. Where no neighbour tells them apart the
# picture does not decide which it is, so both stay out. In words of one case both occur.
DECIDABLE = VISIBLE.replace("I", "").replace("l", "")

ONSETS = listed(
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sc sh sk sl sm sn sp st str t "
    "th tr v w wh x y z"
)
VOWELS = listed("a a e e i i o o u u y ai au ea ee ei eu ia ie io oa oo ou")
OPENERS = listed("The A This That My Your Every Our Their No One His Her Each Some Another")
ARTICLES = listed("the a my your our their his her this that no every")
MODALS = listed("will can may must should would could did might shall cannot")
PREPOSITIONS = listed(
    "about above after before behind below between by for from in near of on over under with"
)
JOINTS = ("and", "but", "so", "for")
ADVERBIALS = ("today", "again", "at noon", "in May", "for us", "too late", "by hand", "once more")
ADDRESSES = ("Road", "Street", "Hotel", "Station", "Park", "House", "Bank")
DOMAINS = ("com", "org", "net", "io", "de", "fr")
CODAS = ["", "", "", *listed("b ck d ft g k l ll m mp n nd ng nk nt p r rd rk rn rt s sh ss st t th v x z")]


# --- natural text ---------------------------------------------------------------------------------


def natural_phrase(dice: Dice) -> str:
    """A short phrase of common English: a name, a title, a fragment, a sentence."""
    phrase = dice.pick(PHRASES)(dice)
    return _varied_case(dice, phrase) if dice.chance(0.6) else phrase


def natural_words(dice: Dice, count: int) -> list[str]:
    """`count` common words in no grammatical order, one in four of them a function word."""
    lists = (words.NOUNS, words.ADJECTIVES, words.VERBS, words.LINKS)
    return [dice.pick(dice.pick(lists)) for _ in range(count)]


def sentence(dice: Dice) -> str:
    """One plain sentence with a capital and a closing mark."""
    who = f"{dice.pick(OPENERS)} {_noun_phrase(dice)}" if dice.chance(0.7) else dice.pick(words.FIRST_NAMES)
    text = (
        f"{who} {dice.pick(MODALS)} {dice.pick(words.VERBS)} {dice.pick(ARTICLES)} {dice.pick(words.NOUNS)}"
    )
    ending = dice.whole(0, 3)
    if ending == 0:
        text += f" {dice.pick(PREPOSITIONS)} {dice.pick(ARTICLES)} {_noun_phrase(dice)}"
    elif ending == 1:
        text += f", {dice.pick(JOINTS)} {dice.pick(words.FIRST_NAMES)} {dice.pick(MODALS)} not"
    elif ending == 2:
        text += f" {dice.pick(ADVERBIALS)}"
    return text + dice.pick(".....!?;")


def full_name(dice: Dice) -> str:
    """A first and a last name, sometimes with a title or an initial."""
    first, last = dice.pick(words.FIRST_NAMES), dice.pick(words.LAST_NAMES)
    style = dice.whole(0, 5)
    if style == 0:
        return f"{dice.pick(['Mr.', 'Mrs.', 'Ms.', 'Dr.', 'Prof.'])} {last}"
    if style == 1:
        return f"{first} {dice.pick(string.ascii_uppercase)}. {last}"
    if style == 2:
        return f"{last}, {first}"
    return f"{first} {last}"


def plural(noun: str) -> str:
    """The regular plural; the few irregular nouns come out as a child would say them."""
    if noun.endswith(("s", "x", "sh", "ch")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _noun_phrase(dice: Dice) -> str:
    return f"{dice.pick(words.ADJECTIVES)} {dice.pick(words.NOUNS)}"


def _the_of(dice: Dice) -> str:
    return f"the {dice.pick(words.NOUNS)} of the {_noun_phrase(dice)}"


def _order(dice: Dice) -> str:
    return f"{dice.pick(words.VERBS)} the {dice.pick(words.NOUNS)}{dice.pick(['', '', '.', '!'])}"


def _pair(dice: Dice) -> str:
    joint = dice.pick([" and ", " & ", " or ", ", ", " / ", ": ", " - "])
    return f"{dice.pick(words.NOUNS)}{joint}{dice.pick(words.NOUNS)}"


def _place(dice: Dice) -> str:
    return f"{dice.pick(words.PLACES)} {dice.pick(ADDRESSES)}"


def _shop(dice: Dice) -> str:
    return f"{dice.pick(words.LAST_NAMES)}'s {dice.pick(words.SHOPS)}"


def _question(dice: Dice) -> str:
    word = dice.pick(["Why", "Where", "When", "How"])
    return f"{word} do we {dice.pick(words.VERBS)} the {dice.pick(words.NOUNS)}?"


def _quoted(dice: Dice) -> str:
    return f'"{_noun_phrase(dice)}"' if dice.chance(0.5) else f"({_noun_phrase(dice)})"


def _fragment(dice: Dice) -> str:
    return " ".join(natural_words(dice, dice.whole(1, 5)))


def _counted(dice: Dice) -> str:
    return f"{dice.whole(2, 99)} {dice.pick(words.ADJECTIVES)} {plural(dice.pick(words.NOUNS))}"


PHRASES: tuple[Callable[[Dice], str], ...] = (
    _noun_phrase, _noun_phrase, _the_of, _order, _pair, _place, _shop, _question, _quoted, _fragment,
    _fragment, _counted, full_name, full_name, sentence, sentence,
)  # fmt: skip


def _varied_case(dice: Dice, text: str) -> str:
    style = dice.whole(0, 9)
    if style < 3:
        return text[:1].upper() + text[1:]
    if style < 6:
        return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))
    return text.upper() if style < 9 else text.lower()


# --- text that cannot be guessed --------------------------------------------------------------------


def random_phrase(dice: Dice) -> str:
    """One to four random tokens with single spaces between them."""
    return " ".join(random_token(dice) for _ in range(dice.whole(1, 4)))


def random_token(dice: Dice) -> str:
    """A word from no language, a number, a price, a date, a code, an address or loose symbols."""
    return dice.pick(TOKENS)(dice)


def random_word(dice: Dice) -> str:
    """A pronounceable word that does not exist (or only by accident), in varied case."""
    syllables = range(dice.whole(1, 3))
    word = "".join(dice.pick(ONSETS) + dice.pick(VOWELS) + dice.pick(CODAS) for _ in syllables)
    return _word_case(dice, word)


def price(dice: Dice) -> str:
    """An amount of money with its sign."""
    amount = f"{dice.whole(0, 10 ** dice.whole(1, 4))}.{dice.whole(0, 99):02d}"
    return dice.pick(["${}", "${}", "{}", "{} EUR", "{} USD", "-{}", "+{}"]).format(amount)


def date(dice: Dice) -> str:
    """A date in one of the usual ways of writing it."""
    day, month, year = dice.whole(1, 28), dice.whole(1, 12), dice.whole(1950, 2049)
    return dice.pick(
        [
            f"{day:02d}/{month:02d}/{year}",
            f"{month}/{day}/{year % 100:02d}",
            f"{year}-{month:02d}-{day:02d}",
            f"{day:02d}.{month:02d}.{year}",
            f"{day} {words.MONTHS[month - 1]} {year}",
            f"{words.MONTHS[month - 1]} {day}, {year}",
        ]
    )


def clock_time(dice: Dice) -> str:
    """A time of day."""
    hour, minute = dice.whole(0, 23), dice.whole(0, 59)
    if dice.chance(0.3):
        return f"{hour % 12 + 1}:{minute:02d} {dice.pick(['am', 'pm', 'AM', 'PM'])}"
    seconds = f":{dice.whole(0, 59):02d}" if dice.chance(0.2) else ""
    return f"{hour:02d}:{minute:02d}{seconds}"


def code(dice: Dice) -> str:
    """Groups of capitals and digits, as on tickets and parts: `AX-4821/Q`."""
    groups = [_string(dice, dice.pick(CODE_ALPHABETS), 1, 5) for _ in range(dice.whole(1, 3))]
    text = groups[0]
    for group in groups[1:]:
        text += dice.pick("---//._#:") + group
    return text


def email(dice: Dice) -> str:
    """Something like an e-mail address."""
    user = _string(dice, string.ascii_lowercase, 2, 7) + dice.pick(["", "", "_", "."])
    user += str(dice.whole(0, 99)) if user[-1] in "_." or dice.chance(0.3) else ""
    return f"{user}@{_string(dice, string.ascii_lowercase, 2, 6)}.{dice.pick(DOMAINS)}"


def web_address(dice: Dice) -> str:
    """Something like an address on the web."""
    host = f"{dice.pick(['www.', 'http://', ''])}{_string(dice, string.ascii_lowercase, 3, 7)}"
    path = f"/{_string(dice, string.ascii_lowercase, 1, 4)}" if dice.chance(0.5) else ""
    query = f"?{dice.pick(string.ascii_lowercase)}={dice.whole(0, 99)}" if dice.chance(0.2) else ""
    return f"{host}.{dice.pick(['com', 'org', 'net', 'uk'])}{path}{query}"


def phone(dice: Dice) -> str:
    """A telephone number in one of the usual ways of writing it."""
    a, b, c = dice.whole(100, 999), dice.whole(100, 999), dice.whole(0, 9999)
    return dice.pick(
        [f"({a}) {b}-{c:04d}", f"{a}-{b}-{c:04d}", f"+{dice.whole(1, 99)} {a} {b}", f"{a}.{b}.{c:04d}"]
    )


def number(dice: Dice) -> str:
    """A plain, grouped, decimal or negative number."""
    digits = dice.whole(1, 7)
    value = dice.whole(0, 10**digits - 1)
    return dice.pick(["{}", "{}", "{:,}", "-{}", "#{}", "{}.5", "x{}", "{}+"]).format(value)


def percentage(dice: Dice) -> str:
    """A percentage, with or without decimals."""
    return f"{dice.whole(0, 100)}%" if dice.chance(0.5) else f"{dice.between(0, 100):.1f}%"


def _word_case(dice: Dice, word: str) -> str:
    style = dice.whole(0, 9)
    if style < 4:
        return word.lower()
    if style < 6:
        return word.capitalize()
    if style < 8:
        return word.upper()
    mixed = "".join(char.upper() if dice.chance(0.5) else char.lower() for char in word)
    return mixed.replace("I", "i").replace("l", "L")  # see DECIDABLE


def _string(dice: Dice, alphabet: str, low: int, high: int) -> str:
    return "".join([dice.pick(alphabet) for _ in range(dice.whole(low, high))])


CODE_ALPHABETS = (CODE_SIGNS, string.ascii_uppercase, string.digits, string.digits)


def _letter_run(dice: Dice) -> str:
    return _word_case(dice, _string(dice, string.ascii_lowercase, 2, 8))


def _symbol_run(dice: Dice) -> str:
    return _string(dice, SYMBOLS, 1, 4)


def _visible_run(dice: Dice) -> str:
    return _string(dice, DECIDABLE, 2, 8)


def _punctuated(dice: Dice) -> str:
    pair = dice.pick(["()", "[]", "{}", '""', "''", "<>", "**", "``", "~~", "||"])
    word = random_word(dice)
    return pair[0] + word + pair[1] if dice.chance(0.4) else word + dice.pick(".,;:!?'-_")


def _assignment(dice: Dice) -> str:
    name = _string(dice, string.ascii_lowercase, 1, 4)
    return f"{name}{dice.pick(['=', '_', '^', '+', '<', '>', '*', '|', '~', ':=', '->'])}{dice.whole(0, 999)}"


TOKENS: tuple[Callable[[Dice], str], ...] = (
    random_word, random_word, random_word, random_word, _letter_run, _letter_run, _punctuated, _punctuated,
    number, number, price, price, date, clock_time, code, code, code, email, web_address, phone, percentage,
    _symbol_run, _visible_run, _visible_run, _assignment,
)  # fmt: skip
