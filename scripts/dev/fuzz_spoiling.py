"""Ways to spoil files and JSON: bits, numbers and pieces of files, values of another type."""

from __future__ import annotations

import random
from typing import Any

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)  # counts overflow at these numbers
ODD = (
    "",
    " ",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "--",
    "-",
    "\x00",
    "é",
    "'",
    '"',
    "\n",
    "../..",
    "/",
    "9" * 30,
)


def spoil(content: bytes, rng: random.Random) -> bytes:
    """Spoil a file with one to six faults: changed bits or numbers; pieces cut, doubled, moved, torn off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        if not data:
            break
        place, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 256))
        match rng.randrange(7):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                number = rng.choice(NUMBERS).to_bytes(4, rng.choice(("big", "little")))
                data[place : place + 4] = number
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))
            case 4:
                data[place : place + length] = rng.randbytes(length)
            case 5:
                del data[place:]
            case _:
                other = rng.randrange(len(data))
                data[place : place + length] = data[other : other + length]
    return bytes(data)


def spoil_json(value: Any, rng: random.Random) -> Any:
    """Spoil one place of a JSON value: another type, a missing entry, or one that occurs too often."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        changed = {**value, key: spoil_json(value[key], rng)}
        if rng.random() < 0.15:
            del changed[key]
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        head = value[:place] * rng.choice((1, 1, 1, 2))
        return [*head, spoil_json(value[place], rng), *value[place + 1 :]]
    if isinstance(value, str) and rng.random() < 0.5:
        return value[: rng.randrange(len(value) + 1)] + rng.choice((*ODD, "<image>", "data:", "file://"))
    return rng.choice((None, True, 0, -1, 1.5, 10**30, "", "<image>", [], {}, [[]], {"type": "image"}, *ODD))
