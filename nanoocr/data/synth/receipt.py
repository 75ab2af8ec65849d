"""Receipts: a shop, a date, priced items in columns, and sums that add up to the cent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanoocr.data.synth import text, words
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.document import (
    MARGIN,
    PAGE_SIZE,
    ROOM,
    Question,
    Sheet,
    finish,
    new_sheet,
    row_pitch,
    rows_that_fit,
    tint,
    write_centred,
    write_right,
)
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.page import Face, face
from nanoocr.data.synth.sample import SynthSample

TAX_RATES = (0, 5, 6, 7, 8, 10, 19, 20, 21)  # percent


@dataclass(frozen=True)
class Item:
    """One bought thing. `cents` is the price of one piece."""

    name: str
    quantity: int
    cents: int


@dataclass(frozen=True)
class Receipt:
    """The content of a receipt; all amounts in cents."""

    heading: tuple[str, ...]  # centred rows: the shop first
    date: str
    items: tuple[Item, ...]
    tax_percent: int
    currency: str  # "" or "$", before the three sums
    shows_quantity: bool

    @property
    def subtotal(self) -> int:
        """The sum of the items."""
        return sum(item.quantity * item.cents for item in self.items)

    @property
    def tax(self) -> int:
        """The tax on the subtotal, rounded half up to a cent."""
        return (self.subtotal * self.tax_percent + 50) // 100

    @property
    def total(self) -> int:
        """What is paid."""
        return self.subtotal + self.tax

    def sums(self) -> list[tuple[str, str]]:
        """Label and amount of the rows below the items."""
        total = ("Total", self.currency + money(self.total))
        if not self.tax_percent:
            return [total]
        subtotal = ("Subtotal", self.currency + money(self.subtotal))
        return [subtotal, (f"Tax {self.tax_percent}%", self.currency + money(self.tax)), total]


def money(cents: int) -> str:
    """Cents as "12.40"."""
    return f"{cents // 100}.{cents % 100:02d}"


def make_receipt(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """A receipt; either "Read." with all rows, or a question about one entry."""
    guessable = dice.chance(0.5)
    font = dice.pick(fonts)
    body = face(font, dice.whole(12, 16))
    receipt = _receipt(dice, body, guessable)
    sheet = new_sheet(dice)
    rows = _set(sheet, dice, receipt, body)
    return finish(sheet, dice, _question(dice, receipt, rows), "receipt", [font], guessable)


def _receipt(dice: Dice, body: Face, guessable: bool) -> Receipt:
    heading = [
        f"{dice.pick(words.LAST_NAMES)} {dice.pick(words.SHOPS)}" if guessable else text.random_word(dice)
    ]
    if dice.chance(0.4):
        heading.append(text.phone(dice) if dice.chance(0.5) else f"No. {text.code(dice)}")
    date = text.date(dice) + (f" {text.clock_time(dice)}" if dice.chance(0.4) else "")
    shows_quantity = dice.chance(0.5)
    most = rows_that_fit(body) - len(heading) - 5  # date, three sums, air
    names = _names(dice, dice.whole(1, max(1, min(7, most))), guessable)
    name_room = ROOM - body.width("99 9999.99   ")
    items = []
    for name in dict.fromkeys(body.fit(name, name_room) for name in names):
        quantity = dice.whole(1, 5) if shows_quantity else 1
        items.append(Item(name, quantity, dice.whole(20, 10 ** dice.whole(2, 4))))
    return Receipt(
        heading=tuple(body.fit(row, ROOM) for row in heading),
        date=body.fit(date, ROOM),
        items=tuple(items),
        tax_percent=dice.pick(TAX_RATES),
        currency=dice.pick(["", "", "$"]),
        shows_quantity=shows_quantity,
    )


def _names(dice: Dice, count: int, guessable: bool) -> list[str]:
    if not guessable:
        return [text.random_word(dice) for _ in range(count)]
    goods = dice.sample(words.GOODS, count)
    return [
        f"{dice.pick(words.GOOD_KINDS).capitalize()} {good}" if dice.chance(0.3) else good for good in goods
    ]


def _set(sheet: Sheet, dice: Dice, receipt: Receipt, body: Face) -> list[str]:
    """Sets the receipt from the top down and returns its rows as they read."""
    page, right = sheet.page, PAGE_SIZE[1] - MARGIN
    upper = dice.chance(0.2)
    rows = [*receipt.heading, receipt.date]
    pitch = row_pitch(dice, body, len(rows) + len(receipt.items) + len(receipt.sums()) + 1)
    y = MARGIN + body.above
    for row in rows:
        write_centred(page, body, row, PAGE_SIZE[1] / 2, y)
        y += pitch
    quantity_right = right - body.width("9999.99 ") if dice.chance(0.5) else 0
    for item in receipt.items:
        rows.append(_set_item(sheet, receipt, body, item, y, quantity_right))
        y += pitch
    if dice.chance(0.6):
        level = y - body.above + pitch // 6
        page.draw().line([(MARGIN, level), (right, level)], fill=tint(page.ground_colour(), sheet.ink, 0.6))
    y += pitch // 2
    for label, amount in receipt.sums():
        shown = label.upper() if upper else label
        page.write(body, shown, MARGIN, y)
        write_right(page, body, amount, right, y)
        rows.append(f"{shown} {amount}")
        y += pitch
    return rows


def _set_item(sheet: Sheet, receipt: Receipt, body: Face, item: Item, y: int, quantity_right: float) -> str:
    """One item's row: the quantity first, or in a column of its own that ends at `quantity_right`."""
    page, amount = sheet.page, money(item.quantity * item.cents)
    shown = [item.name]
    if receipt.shows_quantity and not quantity_right:
        shown = [f"{item.quantity} {item.name}"]
    page.write(body, shown[0], MARGIN, y)
    if receipt.shows_quantity and quantity_right:
        write_right(page, body, str(item.quantity), quantity_right, y)
        shown.append(str(item.quantity))
    write_right(page, body, amount, PAGE_SIZE[1] - MARGIN, y)
    return " ".join([*shown, amount])


def _question(dice: Dice, receipt: Receipt, rows: Sequence[str]) -> Question:
    choice = dice.unit()
    if choice < 0.5:
        return Question("Read.", "\n".join(rows))
    if choice < 0.7:
        return Question("What is the total?", receipt.currency + money(receipt.total))
    if choice < 0.8:
        return Question("What is the name of the shop?", receipt.heading[0])
    if choice < 0.85 and receipt.tax_percent:
        return Question("What is the tax?", receipt.currency + money(receipt.tax))
    item = dice.pick(receipt.items)
    return Question(f"What is the price of {item.name}?", money(item.quantity * item.cents))
