"""What an answer is made of, without a model: tokens in their places, base64, lines of a stream."""

from __future__ import annotations

import base64
import binascii

import pytest

pytest.importorskip("starlette")

from nanoocr.inference.engine import Completion, TokenCount
from nanoocr.serve import chat
from nanoocr.serve.answer import Pieces, Said, Speech, cut, place_tokens


def completion(*pieces: str) -> Completion:
    """A strip of which each token says one of the pieces."""
    places = tuple(sum(map(len, pieces[:i])) for i in range(len(pieces)))
    sure = tuple(0.5 for _ in pieces)
    count = TokenCount(0, 0, len(pieces))
    ids = tuple(range(len(pieces)))
    return Completion(ids, "".join(pieces), "ok", 0.5, count, 0.0, sure, places)


@pytest.mark.parametrize(
    ("text", "strips", "pieces"),
    [
        ("a b\nc", [("a", " b"), ("c",)], ["a", " b", "\nc"]),
        ("a b", [("a", "  ", "b")], ["a", "", " b"]),  # two blanks are one on the page
        ("a-b", [("a-",), ("b ",)], ["a-", "b"]),  # a word that was cut between strips, a blank at the end
        ("\n\né!", [("", "é"), ("!",)], ["", "\n\né", "!"]),  # a letter of two tokens, an empty page before
        ("a\n\n", [("a",)], ["a", "\n\n"]),
        ("\n\n", [], ["\n\n"]),
        ("\n\na", [(), ("a",)], ["\n\na"]),  # a page of which the model said nothing
    ],
)
def test_tokens_share_the_text(text, strips, pieces):
    said, left = place_tokens(text, [completion(*strip) for strip in strips])
    assert [*(one.text for one in said), *([left] if left else [])] == pieces
    assert "".join(pieces) == text


def spoken(stops, most, parts):
    """What goes out after each part of an answer, and at its end."""
    speech, out = Speech(stops, most), []
    for part in parts:
        speech.add(part, [completion(*part)] if part.strip() else ())
        out.append("".join(one.text for one in speech.take()))
    return [*out, "".join(one.text for one in speech.take(end=True))], speech


@pytest.mark.parametrize(
    ("stops", "most", "parts", "goes", "stopped", "cut_short"),
    [
        ((), None, ["ab", "\n\n", "cd"], ["ab", "", "\n\ncd", ""], False, False),
        ((), None, ["ab", "\n\n"], ["ab", "", "\n\n"], False, False),
        ((), 3, ["ab", "cd", "ef"], ["ab", "c", "", ""], False, True),
        (("cd",), None, ["ab", "c", "x"], ["a", "b", "c", "x"], False, False),  # perhaps it comes in part
        (("bc",), None, ["ab", "cd", "e"], ["a", "", "", ""], True, False),
        (
            ("cd", "bcde"),
            None,
            ["abc", "d", "ef"],
            ["", "a", "", ""],
            True,
            False,
        ),  # the one that begins first
        (("cd", "bcde"), None, ["abc", "d", "xx"], ["", "a", "b", ""], True, False),
        (("cd",), 3, ["abcd"], ["ab", "c"], False, True),  # the limit came before it
    ],
)
def test_only_what_is_certain_is_said(stops, most, parts, goes, stopped, cut_short):
    out, speech = spoken(stops, most, parts)
    assert out == goes
    assert (speech.stopped, speech.cut_short) == (stopped, cut_short)
    whole, _ = spoken(stops, most, ["".join(parts)])
    assert "".join(whole) == "".join(goes)


def test_what_is_cut_off_ends_within_a_token():
    said = [Said("ab", 0.5), Said("cd", 0.5), Said("ef", 0.5)]
    assert [one.text for one in cut(said, 3)] == ["ab", "c"]
    assert cut(said, 0) == []


def test_equal_lines_go_together():
    said = [Said(text, 0.5) for text in ("a", "b", "\n--", "-", "\n---", "\nc")]
    pieces = Pieces()
    sent = [*pieces.add(said), *pieces.add([Said("\nc", 0.5)] * 200), *pieces.rest()]
    assert ["".join(one.text for one in line) for line in sent] == [
        "ab",
        "\n---",
        "\n---",
        "\nc",
        "\nc" * 200,
    ]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 30, 31])
@pytest.mark.parametrize("blank", ["", "\n", " "])
def test_base64_in_pieces_is_base64(monkeypatch, size, blank):
    monkeypatch.setattr(chat, "PIECE", 5)
    data = bytes(range(size))
    text = blank.join(base64.b64encode(data).decode())
    assert chat.decode_base64(f"head,{text}", 5) == data


@pytest.mark.parametrize("text", ["%%", "QQ", "QQ==QQ==QQ==", "QUJD" * 9 + "Q", "é"])
def test_damaged_base64_is_refused(monkeypatch, text):
    monkeypatch.setattr(chat, "PIECE", 5)
    with pytest.raises((binascii.Error, ValueError)):
        chat.decode_base64(text)
