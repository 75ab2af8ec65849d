"""Any text survives, special ids never come from text, and exactly the assistant's words are supervised."""

import copy
import json
import pickle
import random
import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoocr.bpe import LONGEST_SLICE, SPECIAL_TOKENS, Tokenizer
from nanoocr.commandline import run
from nanoocr.errors import CheckpointError, UsageError
from nanoocr.tokenizer import MEDIA_PLACEHOLDERS, render_conversation, render_for_completion, visualize
from scripts.tok_train import main

BYTES = Tokenizer.bytes()
LITERALS = [*SPECIAL_TOKENS, "<image>", "<|endoftext|>", "<|audio|>"]


@cache
def trained() -> Tokenizer:
    pytest.importorskip("rustbpe")
    return Tokenizer.train(corpus(), 500)


def corpus() -> list[str]:
    dice = random.Random(0)
    words = ["".join(dice.choices("abcdefghij", k=dice.randint(2, 7))) for _ in range(300)]
    return [" ".join(dice.choices(words, k=12)) + f", {i}\n" for i in range(500)]


def chat(*contents, system=None):
    roles = ["user", "assistant"]
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return {"messages": [{"role": "system", "content": system}] * (system is not None) + messages}


def supervised_text(conversation, tokenizer=BYTES, **options):
    ids, mask = render_conversation(conversation, tokenizer, **options)
    assert len(ids) == len(mask)
    return tokenizer.decode((i for i, m in zip(ids, mask) if m), with_special=True)


def whole_text(conversation, tokenizer=BYTES, **options):
    return tokenizer.decode(render_conversation(conversation, tokenizer, **options)[0], with_special=True)


# Encoding


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
    """nanochat's own ids at a vocabulary of 65,536 (reference/gpt.md, section 6), and ours after them."""
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


# Making


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


# Storing


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


# Conversations


def test_a_plain_conversation_to_the_letter():
    for tokenizer in (BYTES, trained()):
        t = tokenizer
        ids, mask = render_conversation(chat("Hi there", "Hello", "Bye", "Ciao"), t)
        turns = [
            ([t.bos_id, t.user_start_id, *t.encode("Hi there"), t.user_end_id, t.assistant_start_id], 0),
            ([*t.encode("Hello"), t.assistant_end_id], 1),
            ([t.user_start_id, *t.encode("Bye"), t.user_end_id, t.assistant_start_id], 0),
            ([*t.encode("Ciao"), t.assistant_end_id], 1),
        ]
        assert ids == [i for run, _ in turns for i in run]
        assert mask == [m for run, m in turns for _ in run]


def test_only_the_assistants_words_and_end_are_supervised():
    conversation = chat("one <|assistant_start|> two", "three", "four", "five", system="rules")
    assert supervised_text(conversation) == "three<|assistant_end|>five<|assistant_end|>"


def test_python_is_supervised_and_its_output_is_not():
    parts = [
        {"type": "text", "text": "I count. "},
        {"type": "python", "text": "1+1"},
        {"type": "python_output", "text": "2"},
        {"type": "text", "text": "Two."},
    ]
    conversation = chat("1+1?", parts)
    assert "<|python_end|><|output_start|>2<|output_end|>Two." in whole_text(conversation)
    assert supervised_text(conversation) == (
        "I count. <|python_start|>1+1<|python_end|>Two.<|assistant_end|>"
    )


def test_system_joins_the_first_user_message():
    assert whole_text(chat("Hi", "Yo", system="Be kind.")) == whole_text(chat("Be kind.\n\nHi", "Yo"))
    with_parts = chat([{"type": "text", "text": "Hi"}], "Yo", system="Be kind.")
    ids = render_conversation(with_parts, trained())
    assert ids == render_conversation(chat("Be kind.\n\nHi", "Yo"), trained())


def test_system_text_is_literal():
    text = whole_text(chat("Hi <image>", "Yo", system="Say <image>."), image_token_counts=[2])
    assert "Say <image>.\n\nHi <|image|><|image|><|user_end|>" in text


def test_placeholders_become_blocks_of_image_ids():
    conversation = chat("<image>a<image>\nb", "c", "<image>", "d")
    ids, mask = render_conversation(conversation, BYTES, image_token_counts=[2, 1, 3])
    text = BYTES.decode(ids, with_special=True)
    assert text == (
        "<|bos|><|user_start|><|image|><|image|>a<|image|>\nb<|user_end|><|assistant_start|>c<|assistant_end|>"
        "<|user_start|><|image|><|image|><|image|><|user_end|><|assistant_start|>d<|assistant_end|>"
    )
    assert [m for i, m in zip(ids, mask) if i == BYTES.image_id] == [0] * 6


def test_parts_hold_pictures_and_literal_text():
    parts = [{"type": "text", "text": "a <image> "}, {"type": "image"}, {"type": "text", "text": "<video>"}]
    ids, _ = render_conversation(chat(parts, "b"), BYTES, image_token_counts=[2])
    assert ids.count(BYTES.image_id) == 2
    assert "a <image> <|image|><|image|><video>" in BYTES.decode(ids, with_special=True)


@pytest.mark.parametrize("literal", LITERALS)
def test_literal_specials_stay_text(literal):
    user = [{"type": "text", "text": literal}]
    ids, mask = render_conversation(chat(user, literal), BYTES)
    specials = [i for i in ids if BYTES.is_special(i)]
    assert specials == [
        BYTES.bos_id,
        BYTES.user_start_id,
        BYTES.user_end_id,
        BYTES.assistant_start_id,
        BYTES.assistant_end_id,
    ]
    assert sum(mask) == len(literal.encode()) + 1


@pytest.mark.parametrize("literal", sorted(set(LITERALS) - {"<image>"}))
def test_literal_specials_in_a_plain_user_string_stay_text(literal):
    ids, _ = render_conversation(chat(literal), BYTES)
    assert ids[2:-1] == list(literal.encode())


@pytest.mark.parametrize("counts", [[], [3], [3, 3, 3]])
def test_a_count_mismatch_names_both_numbers(counts):
    with pytest.raises(UsageError, match=rf"2 <image> placeholders for {len(counts)} pictures"):
        render_conversation(chat("<image><image>", "x"), BYTES, image_token_counts=counts)


def test_a_picture_without_tokens_is_refused():
    with pytest.raises(UsageError, match="at least one token"):
        render_conversation(chat("<image>", "x"), BYTES, image_token_counts=[0])


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_other_media_are_not_supported_yet(kind):
    assert MEDIA_PLACEHOLDERS[f"<{kind}>"] == f"<|{kind}|>"
    for content in (f"a <{kind}> b", [{"type": kind}]):
        with pytest.raises(UsageError, match=f"<{kind}> is not supported yet"):
            render_conversation(chat(content, "x"), BYTES)
    assert f"<{kind}>" in whole_text(chat([{"type": "text", "text": f"<{kind}>"}], "x"))


def test_nothing_is_cut():
    conversation = chat("<image>abc", "def")
    ids, _ = render_conversation(conversation, BYTES, image_token_counts=[5])
    options = {"image_token_counts": [5]}
    assert render_conversation(conversation, BYTES, max_length=len(ids), **options)[0] == ids
    with pytest.raises(UsageError, match=f"{len(ids)} tokens, but max_length is {len(ids) - 1}"):
        render_conversation(conversation, BYTES, max_length=len(ids) - 1, **options)


USER, ASSISTANT = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (None, "at least one message"),
        ([], "at least one message"),
        ([ASSISTANT], "Message 0 is from 'assistant', but it is the user's turn"),
        ([USER, USER], "Message 1 is from 'user', but it is the assistant's turn"),
        ([USER, ASSISTANT, ASSISTANT], "Message 2 "),
        ([{"role": "system", "content": "s"}], "system message only"),
        ([{"role": "system", "content": ["s"]}, USER], "must be a string"),
        ([{"role": "system", "content": "s"}, ASSISTANT], "Message 1 "),
        ([USER, {"role": "system", "content": "s"}], "Message 1 "),
        ([{"role": "user"}], 'Message 0 has no "content"'),
        ([{"content": "x"}], 'Message 0 has no "role"'),
        (["hello"], 'Message 0 has no "role"'),
        ([{"role": "user", "content": 7}], "message 0 must be a string or a list"),
        (
            [{"role": "user", "content": [{"type": "python", "text": "1"}]}],
            "type 'python'; allowed are text, image",
        ),
        (
            [USER, {"role": "assistant", "content": [{"type": "image"}]}],
            "type 'image'; allowed are text, python",
        ),
        ([{"role": "user", "content": ["x"]}], "part of type None"),
        ([{"role": "user", "content": [{"type": "text"}]}], 'without a string "text"'),
    ],
)
def test_malformed_conversations_name_the_message(messages, words):
    with pytest.raises(UsageError, match=words):
        render_conversation({"messages": messages}, BYTES)


@pytest.mark.parametrize(
    "messages", [[ASSISTANT], [USER, ASSISTANT, ASSISTANT], [{"role": "system", "content": "s"}]]
)
def test_completion_needs_a_user_message(messages):
    with pytest.raises(UsageError, match="no user message to answer"):
        render_for_completion({"messages": messages}, BYTES)


def test_completion_ends_where_the_assistant_begins():
    question = chat("<image>a", "b", "c")
    prompt = render_for_completion(question, BYTES, image_token_counts=[2])
    answered = render_for_completion(chat("<image>a", "b", "c", "answer"), BYTES, image_token_counts=[2])
    full, mask = render_conversation(chat("<image>a", "b", "c", "answer"), BYTES, image_token_counts=[2])
    assert prompt == answered == full[: len(prompt)]
    assert prompt[-1] == BYTES.assistant_start_id
    assert BYTES.decode(full[len(prompt) :]) == "answer"
    assert all(mask[len(prompt) :])


def test_completion_length_counts_the_last_token():
    length = len(render_for_completion(chat("abc"), BYTES))
    assert len(render_for_completion(chat("abc"), BYTES, max_length=length)) == length
    with pytest.raises(UsageError, match=f"{length} tokens"):
        render_for_completion(chat("abc"), BYTES, max_length=length - 1)


def test_visualize_colours_by_mask_and_folds_pictures():
    ids, mask = render_conversation(chat("<image>u", "aa"), BYTES, image_token_counts=[73])
    green, red, end = "\033[32m", "\033[31m", "\033[0m"
    shown = visualize(ids, mask, BYTES).split("|\033")
    assert shown[2] == "[31m<|image|> x 73" + end
    assert [part.removeprefix("\033") for part in shown].count("[32ma" + end) == 2
    assert shown[-1] == "[32m<|assistant_end|>" + end
    assert red in visualize(ids, mask, BYTES)
    assert green not in visualize(ids[:5], mask[:5], BYTES)


# scripts/tok_train


def test_tok_train_writes_the_file_and_reports(tmp_path, capsys):
    pytest.importorskip("rustbpe")
    (tmp_path / "a.txt").write_text("".join(corpus()[:250]))
    (tmp_path / "b.txt").write_text("".join(corpus()[250:]))
    out = tmp_path / "tokenizer.json"
    flags = ["--vocab_size=500", f"--out={out}", "--synth_count=0", "--held_out=10"]
    assert run(main, [*flags, f"--texts={tmp_path / 'a.txt'}", f"--texts={tmp_path / 'b.txt'}"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Tokenizer.from_file(out).fingerprint() == report["fingerprint"]
    assert (report["vocab_size"], report["texts"]) == (500, 450)
    assert report["characters_per_token"] > 1.4
    assert report["characters_per_byte_token"] == 1.0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--synth_count=0"], "no text to train on"),
        (["--texts=nowhere.txt", "--synth_count=0"], "nowhere.txt does not exist"),
        (["--synth_count=-1"], "synth_count is -1"),
        (["--held_out=1"], "held_out is 1"),
        (["--vocab=3"], "--vocab=3"),
    ],
)
def test_tok_train_mistakes_end_in_one_line_and_code_2(flags, words, capsys):
    assert run(main, flags) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
