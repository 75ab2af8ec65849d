"""Glyph targets by hand, and the losses of the heads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nanoocr.alphabet import CHARACTERS, CLASS_OF
from nanoocr.config import SLOTS
from nanoocr.data.glyphs import EMPTY_WEIGHT, NOTHING, UNKNOWN, glyph_targets
from nanoocr.model.deepencoder import VisionFeatures
from nanoocr.model.glyph_heads import CLASSES
from nanoocr.train.glyph import GlyphLosses, glyph_sums, split_into_tokens

NONE = np.zeros((0, 4), dtype=np.float32)


def class_of(char: str) -> int:
    return ord(char) - 31


def boxes_at(*centres: tuple[float, float]) -> np.ndarray:
    """Boxes of 6 x 10 pixels around (x, y)."""
    return np.array([[x - 3, y - 5, x + 3, y + 5] for x, y in centres], dtype=np.float32)


def test_targets_by_hand():
    """A 64 x 128 picture: 4 x 8 patches of two slots, each slot 16 pixels high and 8 wide."""
    targets = glyph_targets("Ab ~", boxes_at((3, 8), (9, 8), (127.5, 63.5), (40, 16)), (64, 128))
    expected = np.zeros((4, 8, 2), dtype=np.uint8)
    expected[0, 0, 0] = class_of("A")  # x 3 is in the left half of the first patch
    expected[0, 0, 1] = class_of("b")  # x 9 is in its right half
    expected[3, 7, 1] = class_of(" ")  # the last slot of all
    expected[1, 2, 1] = class_of("~")  # x 40 and y 16 begin a new slot each
    assert targets.dtype == np.uint8
    assert np.array_equal(targets, expected)


def test_classes_are_the_alphabet_with_zero_for_empty():
    assert [class_of(" "), class_of("~")] == [1, 95]
    chars = "".join(chr(code) for code in range(32, 127))
    centres = [(4 + 8 * (i % 16), 8 + 16 * (i // 16)) for i in range(95)]
    targets = glyph_targets(chars, boxes_at(*centres), (128, 128))
    assert targets.reshape(-1)[:95].tolist() == list(range(1, 96))
    assert len(CHARACTERS) == CLASSES - 1 < UNKNOWN
    assert (targets.reshape(-1)[95:] == 0).all()


def test_two_in_one_slot_the_later_one_stays():
    targets = glyph_targets("il", boxes_at((2, 8), (6, 8)), (16, 16))
    assert targets[0, 0].tolist() == [class_of("l"), 0]


@pytest.mark.parametrize("centre", [(-1, 8), (-7, 8), (8, -1), (8, -15), (128, 8), (8, 64), (500, 500)])
def test_a_centre_outside_of_the_picture_is_left_out(centre):
    assert not glyph_targets("x", boxes_at(centre), (64, 128)).any()


@pytest.mark.parametrize("char", ["\u4e2d", "\u2212", "\x7f", "\n", NOTHING])
def test_characters_outside_of_the_alphabet_are_left_out(char):
    """Left out, not taken for a question mark."""
    targets = glyph_targets(char + "x", boxes_at((4, 8), (20, 8)), (16, 32))
    assert targets.reshape(-1).tolist() == [0, 0, class_of("x"), 0]


@pytest.mark.parametrize("char", ["\u20ac", "\u00e9", "\u0141", "\u201c"])
def test_letters_with_marks_and_signs_have_classes_of_their_own(char):
    targets = glyph_targets(char, boxes_at((4, 8)), (16, 16))
    assert targets[0, 0, 0] == CLASS_OF[char] > 95


def test_a_picture_known_to_bear_nothing_is_empty_everywhere():
    assert not glyph_targets(NOTHING, boxes_at((4, 8)), (64, 128)).any()


def test_a_picture_without_boxes_is_unknown_everywhere():
    targets = glyph_targets("", NONE, (64, 128))
    assert targets.shape == (4, 8, SLOTS) and (targets == UNKNOWN).all()


def test_split_into_tokens_gives_each_token_its_16_patches():
    targets = torch.arange(2 * 8 * 12 * 2).view(2, 8, 12, 2)
    split = split_into_tokens(targets)
    assert split.shape == (2, 2, 3, 4, 4, 2)
    for row in range(2):
        for column in range(3):
            patches = targets[1, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            assert torch.equal(split[1, row, column], patches)


# ---------------------------------------------------------------------------------------------------------
# loss and accuracy


def test_accuracy_is_one_for_perfect_logits_and_counts_characters_alone():
    targets = torch.tensor([[0, 5, 0, 95], [0, 0, 7, UNKNOWN]])
    perfect = torch.nn.functional.one_hot(targets.clamp_max(95), CLASSES).float()
    assert glyph_sums(perfect, targets).accuracy == 1
    silent = torch.zeros_like(perfect)
    silent[..., 0] = 1  # right on every empty slot, and worth nothing
    assert glyph_sums(silent, targets).accuracy == 0
    perfect[0, 1] = silent[0, 1]
    torch.testing.assert_close(glyph_sums(perfect, targets).accuracy, torch.tensor(2 / 3))


def test_loss_by_hand():
    """One character and one empty slot: the empty one counts EMPTY_WEIGHT."""
    logits = torch.randn(1, 2, CLASSES)
    log_p = logits.log_softmax(-1)
    loss = glyph_sums(logits, torch.tensor([[40, 0]])).loss
    expected = -(log_p[0, 0, 40] + EMPTY_WEIGHT * log_p[0, 1, 0]) / (1 + EMPTY_WEIGHT)
    torch.testing.assert_close(loss, expected)


def test_uniform_logits_cost_log_of_the_classes():
    loss = glyph_sums(torch.zeros(3, 50, CLASSES), torch.randint(0, CLASSES, (3, 50))).loss
    assert loss.item() == pytest.approx(math.log(CLASSES), rel=1e-5)


def test_unknown_slots_do_not_count():
    logits = torch.randn(2, 30, CLASSES, requires_grad=True)
    targets = torch.randint(0, CLASSES, (2, 30))
    targets[1] = UNKNOWN
    loss = glyph_sums(logits, targets).loss
    torch.testing.assert_close(loss, glyph_sums(logits[:1], targets[:1]).loss)
    loss.backward()
    assert (logits.grad[1] == 0).all() and logits.grad[0].abs().sum() > 0


def test_without_any_known_slot_there_is_no_loss_and_no_nan():
    logits = torch.randn(2, 3, CLASSES, requires_grad=True)
    loss = glyph_sums(logits, torch.full((2, 3), UNKNOWN)).loss
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_accuracy_without_any_character_is_a_number():
    """It goes into a moving average, which one NaN would spoil for the rest of the run."""
    for targets in (torch.full((2, 3), UNKNOWN), torch.zeros(2, 3, dtype=torch.long)):
        assert glyph_sums(torch.randn(2, 3, CLASSES), targets).accuracy.isfinite()


def test_heads_learn_to_name_what_the_features_show(tiny_model):
    """Both reach accuracy 1 where each patch shows its own characters; layouts must fit for that."""
    heads = GlyphLosses(tiny_model.config)
    left = torch.randint(0, 8, (2, 4, 8))
    targets = torch.stack([left, (left + 1) % 8], dim=-1).to(torch.uint8)
    features = VisionFeatures(
        patches=torch.nn.functional.one_hot(left, 8).permute(0, 3, 1, 2).float(),
        sam=torch.empty(0),
        clip=torch.empty(0),
        projected=torch.randn(2, 1, 2, 32),
        tokens=torch.empty(0),
    )
    optimizer = torch.optim.Adam(heads.parameters(), lr=0.1)
    for _ in range(60):
        on_patches, on_tokens = heads.of_patches(features, targets), heads.of_tokens(features, targets)
        (on_patches.loss + on_tokens.loss).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert on_patches.accuracy == on_tokens.accuracy == 1
    assert on_patches.loss < 0.1 and on_tokens.loss < 0.1


def test_token_head_does_not_see_the_scale_of_the_projector(tiny_model):
    heads = GlyphLosses(tiny_model.config)
    features = tiny_model.encoder(torch.rand(1, 3, 64, 128))
    targets = torch.randint(0, CLASSES, (1, 4, 8, SLOTS))
    scaled = features._replace(projected=features.projected * 15)
    torch.testing.assert_close(heads.of_tokens(features, targets).loss, heads.of_tokens(scaled, targets).loss)
