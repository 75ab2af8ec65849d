"""Presets and the configuration that a checkpoint carries."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nanoocr.bpe import Tokenizer
from nanoocr.config import BYTE_VOCAB, PRESETS, config_from_dict, config_to_dict, preset
from nanoocr.errors import CheckpointError, UsageError


def test_d20_has_the_released_sizes():
    c = preset("d20")
    sam = (c.sam.width, c.sam.depth, c.sam.heads, c.sam.window, c.sam.global_blocks, c.sam.grid, c.sam.neck)
    assert sam == (768, 12, 12, 14, (2, 5, 8, 11), (64, 64), 256)
    assert c.sam.compressor == (512, 1024)
    assert (c.clip.width, c.clip.depth, c.clip.heads, c.clip.grid) == (1024, 24, 16, (16, 16))
    gpt = (c.gpt.vocab_size, c.gpt.sequence_len, c.gpt.n_layer, c.gpt.n_head, c.gpt.n_kv_head, c.gpt.n_embd)
    assert gpt == (65537, 2048, 20, 10, 10, 1280)
    assert c.gpt.n_embd // c.gpt.n_head == 128  # not 16 heads: they fit the shapes, not the function


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_take_the_vocabulary_at_hand(name):
    assert preset(name).name == name
    assert preset(name, vocab_size=1234).gpt.vocab_size == 1234
    assert replace(preset(name, 300), gpt=preset(name).gpt) == preset(name)  # nothing else has changed


def test_the_small_preset_defaults_to_the_byte_vocabulary():
    assert preset("nano").gpt.vocab_size == BYTE_VOCAB == Tokenizer.bytes().vocab_size


def test_unknown_preset_names_itself_and_the_choice():
    with pytest.raises(UsageError, match=r"'huge'.*nano, small, d20"):
        preset("huge")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_round_trip_through_json(name):
    config = preset(name, vocab_size=500)
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def test_tuples_come_back_as_tuples():
    read = config_from_dict(json.loads(json.dumps(config_to_dict(preset("nano")))))
    assert type(read.sam.grid) is tuple and type(read.views) is tuple and type(read.views[0]) is tuple


@pytest.mark.parametrize(
    ("part", "sizes", "message"),
    [
        ("clip", {"width": 128}, "compressor"),
        ("sam", {"heads": 3}, "sam.heads"),
        ("clip", {"heads": 3}, "clip.heads"),
        ("gpt", {"n_head": 3}, "gpt.n_head"),
        ("gpt", {"n_kv_head": 3}, "n_kv_head"),
        ("gpt", {"n_head": 256, "n_kv_head": 256}, "even"),
    ],
)
def test_sizes_that_cannot_fit_are_refused(part, sizes, message):
    nano = preset("nano")
    with pytest.raises(UsageError, match=message):
        replace(nano, **{part: replace(getattr(nano, part), **sizes)})


@pytest.mark.parametrize("views", [(), ((100, 256),), ((128, 0),), ((-64, 64),), ((8192, 64),)])
def test_views_that_cannot_be_encoded_are_refused(views):
    with pytest.raises(UsageError, match="view"):
        replace(preset("nano"), views=views)


def broken(part: str, key: str, value: object) -> dict:
    data = json.loads(json.dumps(config_to_dict(preset("nano"))))
    (data[part] if part else data)[key] = value
    return data


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("sam", "depth", -1),
        ("sam", "depth", 0),
        ("sam", "depth", 2.0),
        ("sam", "depth", True),
        ("sam", "depth", "4"),
        ("sam", "depth", None),
        ("gpt", "n_layer", 10**12),  # a hostile file must not ask for terabytes
        ("gpt", "surprise", 1),
        ("sam", "grid", [8, -16]),
        ("", "sam", 7),
        ("", "sam", None),
        ("", "gpt", []),
        ("", "views", [[100, 100]]),
        ("", "views", [[64]]),
        ("", "views", None),
    ],
)
def test_unreadable_configuration_is_a_checkpoint_error(part, key, value):
    with pytest.raises(CheckpointError):
        config_from_dict(broken(part, key, value))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("sam", "compressor", [256]),
        ("sam", "grid", [8]),
        ("sam", "grid", 8),
        ("sam", "grid", [8, 16, 1]),
        ("clip", "grid", [2]),
        ("sam", "width", [128]),
        ("gpt", "n_layer", [4]),
        ("sam", "global_blocks", 1),
        ("", "views", [[float("inf"), 64]]),
    ],
)
def test_number_for_pair_and_pair_for_number_are_checkpoint_errors(part, key, value):
    """They must be noticed here, not as a TypeError when the model is built."""
    with pytest.raises(CheckpointError):
        config_from_dict(broken(part, key, value))


@pytest.mark.parametrize("key", ["name", "sam", "clip", "gpt", "views"])
def test_missing_part_is_named(key):
    data = config_to_dict(preset("nano"))
    del data[key]
    with pytest.raises(CheckpointError, match=key):
        config_from_dict(data)


def test_missing_field_is_named():
    data = config_to_dict(preset("nano"))
    del data["gpt"]["n_kv_head"]
    with pytest.raises(CheckpointError, match="n_kv_head"):
        config_from_dict(data)
