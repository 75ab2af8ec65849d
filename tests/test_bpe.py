"""The tokenizer: any text survives, files are readable and checked, and merges are trained."""

import copy
import json
import pickle
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoocr.bpe import LONGEST_SLICE, SPECIAL_TOKENS, Tokenizer
from nanoocr.errors import CheckpointError, UsageError
from tests.tokenizers import BYTES, LITERALS, corpus, trained


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_survives(text):
    for tokenizer in (BYTES, trained()):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids) == text.encode()
        assert not any(tokenizer.is_special(i) for i in ids)


@given(st.lists(st.sampled_from([*LITERALS, "<|", "|>", " ", "a", "\n"]), max_size=8))
@settings(max_examples=100, deadline=None)
def test_special_ids_never_come_from_text(pieces):
    text = "".join(pieces)
    for tokenizer in (BYTES, trained()):
        ids = tokenizer.encode(text)
        assert max(ids, default=0) < tokenizer.vocab_size - len(SPECIAL_TOKENS)
        assert tokenizer.decode(ids) == text


def test_bytes_tokenizer():
    assert BYTES.vocab_size == 266
    assert BYTES.encode("a\u00e9") == [97, 0xC3, 0xA9]


def test_special_tokens_stand_after_the_merges_in_nanochats_order():
    names = ["bos", "user_start", "user_end", "assistant_start", "assistant_end"]
    names += ["python_start", "python_end", "output_start", "output_end", "image"]
    assert tuple(f"<|{name}|>" for name in names) == SPECIAL_TOKENS
    for tokenizer in (BYTES, trained()):
        first = tokenizer.vocab_size - 10
        assert [getattr(tokenizer, f"{name}_id") for name in names] == list(range(first, first + 10))
        assert list(tokenizer.special_ids()) == list(range(first, first + 10))
        assert [i for i in range(tokenizer.vocab_size) if tokenizer.is_special(i)] == list(
            tokenizer.special_ids()
        )
        assert tokenizer.decode(tokenizer.special_ids(), with_special=True) == "".join(SPECIAL_TOKENS)
        assert tokenizer.decode(tokenizer.special_ids()) == ""


def test_d20_ids():
    """nanochat's own ids at a vocabulary of 65,536, and ours after them."""
    tokens = [bytes([i]) for i in range(256)] + [i.to_bytes(3, "big") for i in range(65527 - 256)]
    tokenizer = Tokenizer(tokens)
    assert (tokenizer.bos_id, tokenizer.assistant_end_id, tokenizer.output_end_id) == (65527, 65531, 65535)
    assert (tokenizer.image_id, tokenizer.vocab_size) == (65536, 65537)


def test_numbers_are_cut_into_runs_of_two_digits():
    tokenizer = Tokenizer([*BYTES.tokens, b"12", b"34", b"123", b"1234"])
    assert tokenizer.encode("12345") == [256, 257, ord("5")]


def test_decode_replaces_broken_utf8_and_bytes_keep_it():
    ids = BYTES.encode("\u00e9")[:1]
    assert BYTES.decode(ids) == "\ufffd"
    assert BYTES.decode_bytes(ids) == b"\xc3"


@pytest.mark.parametrize("bad", [-1, 266])
def test_decode_refuses_ids_outside_the_vocabulary(bad):
    with pytest.raises(UsageError, match=f"{bad} is outside the vocabulary of 266"):
        BYTES.decode([65, bad])


def test_half_a_surrogate_pair_is_replaced():
    assert BYTES.decode(BYTES.encode("\ud800x")) == "\ufffdx"


def test_a_million_blanks_do_not_break_the_regex_engine():
    text = " " * (2 * LONGEST_SLICE) + "x"
    assert BYTES.decode(BYTES.encode(text)) == text


def test_training_compresses_and_is_repeatable():
    tokenizer = trained()
    assert tokenizer.vocab_size == 500
    assert Tokenizer.train(corpus(), 500) == tokenizer
    text = corpus()[0]
    assert len(tokenizer.encode(text)) < 0.7 * len(BYTES.encode(text))


def test_the_smallest_vocabulary_has_no_merges():
    pytest.importorskip("rustbpe")
    assert Tokenizer.train(["some text"], 266) == BYTES


def test_training_errors():
    pytest.importorskip("rustbpe")
    with pytest.raises(UsageError, match=r"265 .* 266"):
        Tokenizer.train(["abc"], 265)
    with pytest.raises(UsageError, match=r"only \d+ of the 1000"):
        Tokenizer.train(["abc"], 1000)


def test_training_without_rustbpe_names_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "rustbpe", None)
    with pytest.raises(UsageError, match=r"pip install .*\[train\]"):
        Tokenizer.train(["abc"], 300)


def test_tokens_are_checked():
    with pytest.raises(UsageError, match="twice"):
        Tokenizer([*BYTES.tokens, b"a"])
    with pytest.raises(UsageError, match="byte token 0 is missing"):
        Tokenizer(BYTES.tokens[1:])
    with pytest.raises(UsageError, match="regular expression"):
        Tokenizer(BYTES.tokens, pattern="(")


def test_save_and_load(tmp_path):
    for tokenizer in (BYTES, trained()):
        tokenizer.save(tmp_path / "tokenizer.json")
        loaded = Tokenizer.from_file(tmp_path / "tokenizer.json")
        assert loaded == tokenizer
        assert loaded.fingerprint() == tokenizer.fingerprint()
        assert loaded.encode(corpus()[3]) == tokenizer.encode(corpus()[3])
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_the_file_is_json_with_one_token_per_line(tmp_path):
    text = trained().to_json()
    content = json.loads(text)
    assert (content["format"], content["version"]) == ("nanoocr-tokenizer", 1)
    assert len(content["tokens"]) == 490
    assert content["special_tokens"] == list(SPECIAL_TOKENS)
    assert text.isascii()
    assert len(text.splitlines()) == 490 + 10 + 9
    assert '    "a",' in text.splitlines()


def test_fingerprint_and_equality_tell_tokenizers_apart():
    other = Tokenizer([*BYTES.tokens, b"ab"])
    pattern = Tokenizer(BYTES.tokens, pattern=r"\s|\S")
    assert len({t.fingerprint() for t in (BYTES, other, pattern)}) == 3
    assert len({BYTES, other, pattern, Tokenizer.bytes()}) == 3


def test_tokenizers_travel_to_worker_processes():
    assert pickle.loads(pickle.dumps(BYTES)) == BYTES
    assert copy.deepcopy(BYTES).encode("abc") == [97, 98, 99]


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.json does not exist"):
        Tokenizer.from_file(tmp_path / "nowhere.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.from_file(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "format"),
        ({"version": 2}, "version 2"),
        ({"special_tokens": ["<|bos|>"]}, "special tokens"),
        ({"special_tokens": [*SPECIAL_TOKENS[1:], SPECIAL_TOKENS[0]]}, "special tokens"),
        ({"tokens": ["a"]}, "byte token 0 is missing"),
        ({"tokens": None}, "list of tokens is missing"),
        ({"tokens": ["a", ""]}, "empty"),
        ({"tokens": ["a", 7]}, "not a string"),
        ({"tokens": ["\u1234"]}, "latin-1"),
        ({"pattern": "("}, "regular expression"),
        ({"pattern": None}, "pattern"),
    ],
)
def test_damaged_files_name_file_and_fault(tmp_path, change, words):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**json.loads(BYTES.to_json()), **change}))
    with pytest.raises(CheckpointError, match=words) as caught:
        Tokenizer.from_file(path)
    assert "bad.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"\x80\x04pickle"])
def test_files_that_are_no_tokenizer(tmp_path, content):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.json"):
        Tokenizer.from_file(tmp_path / "bad.json")
