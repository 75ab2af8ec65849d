"""Conversations: special ids never come from text, and exactly the assistant's words are supervised."""

import pytest

from nanoocr.errors import UsageError
from nanoocr.tokenizer import MEDIA_PLACEHOLDERS, render_conversation, render_for_completion, visualize
from tests.tokenizers import BYTES, LITERALS, trained


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
