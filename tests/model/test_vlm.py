"""Where the picture meets the text."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nanoocr.errors import UsageError
from nanoocr.image_process import count_vision_tokens
from nanoocr.model.vlm import IGNORE, VLM

IMAGE = 265


def batch(sizes: list[list[tuple[int, int]]], length: int = 40) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(B, T) ids in which every picture of a row stands as its run of `<|image|>`, and the pictures."""
    ids = torch.randint(0, 256, (len(sizes), length))
    views = []
    for row, pictures in zip(ids, sizes):
        start = 2
        for size in pictures:
            count = count_vision_tokens(size)
            row[start : start + count] = IMAGE
            start += count + 1
            views.append(torch.rand(3, *size) * 2 - 1)
    return ids, views


def test_logits_of_a_mixed_batch_equal_row_by_row(tiny_model):
    """Two sizes, two pictures in one row, none in another."""
    sizes = [[(64, 128)], [(128, 128), (64, 64)], [], [(64, 128)], [(64, 64)]]
    ids, views = batch(sizes)
    together = tiny_model(ids, views=views)
    assert together.shape == (5, 40, 266) and together.dtype == torch.float32
    taken = 0
    for row, pictures, logits in zip(ids, sizes, together):
        own = views[taken : taken + len(pictures)]
        taken += len(pictures)
        alone = tiny_model(row[None], views=own or None)[0]
        torch.testing.assert_close(logits, alone, atol=1e-4, rtol=1e-4)


def test_vision_tokens_stand_where_the_image_ids_are(tiny_model):
    ids, views = batch([[(64, 128)], [(64, 64)]])
    vision = tiny_model.encode(views)
    embedded = tiny_model.embed(ids, vision)
    assert torch.equal(embedded[ids == IMAGE], vision)
    assert torch.equal(embedded[ids != IMAGE], tiny_model.gpt.embed(ids)[ids != IMAGE])


def test_one_tensor_of_views_equals_a_list_of_them(tiny_model):
    ids, views = batch([[(64, 128)], [(64, 128)]])
    assert torch.equal(tiny_model(ids, views=torch.stack(views)), tiny_model(ids, views=views))


def test_text_alone_needs_no_pictures(tiny_model):
    ids, _ = batch([[], []], length=7)
    logits = tiny_model(ids)
    expected = tiny_model.gpt.logits(tiny_model.gpt(tiny_model.gpt.embed(ids)))
    assert torch.equal(logits[..., :IMAGE], expected[..., :IMAGE])


@pytest.mark.parametrize(("wanted", "found"), [(3, 4), (5, 4)])
def test_count_that_does_not_match_names_both_numbers(tiny_model, wanted, found):
    ids = torch.randint(0, 256, (1, 9))
    ids[0, :wanted] = IMAGE
    view = torch.zeros(1, 3, 64, 128)
    assert count_vision_tokens((64, 128)) == found
    with pytest.raises(UsageError, match=f"{wanted} .*{found} "):
        tiny_model(ids, views=view)


def test_image_ids_without_pictures_and_pictures_without_ids(tiny_model):
    ids, views = batch([[(64, 128)]])
    with pytest.raises(UsageError, match=r"4 .* 0 "):
        tiny_model(ids)
    with pytest.raises(UsageError, match=r"0 .* 4 "):
        tiny_model(torch.randint(0, 256, (1, 9)), views=views)


def test_another_picture_gives_other_logits(tiny_model):
    ids, views = batch([[(64, 128)]])
    other = [torch.rand(3, 64, 128) * 2 - 1]
    a, b = tiny_model(ids, views=views), tiny_model(ids, views=other)
    behind = slice(6, None)  # the run of four image ids starts at 2
    assert ((a - b)[0, behind, :IMAGE].abs().amax(-1) > 1e-3).all()
    assert torch.equal(a[:, :2], b[:, :2])  # before the picture nothing changes


@pytest.mark.parametrize("factor", [15.0, 0.25])
def test_scale_of_the_projector_cancels(tiny_model, factor):
    """The merge is before the norm, so vision vectors of any length count the same."""
    ids, views = batch([[(64, 128)], [(128, 128)]])
    before = tiny_model(ids, views=views)
    with torch.no_grad():
        for parameter in (
            *tiny_model.encoder.projector.parameters(),
            tiny_model.encoder.image_newline,
            tiny_model.encoder.view_seperator,
        ):
            parameter.mul_(factor)
    torch.testing.assert_close(tiny_model(ids, views=views), before, atol=2e-4, rtol=1e-4)


def test_image_token_can_never_be_generated(tiny_model):
    ids, views = batch([[(64, 128)]])
    logits = tiny_model(ids, views=views)
    assert (logits[..., IMAGE] == -float("inf")).all()
    assert logits[..., :IMAGE].isfinite().all()
    assert (logits.softmax(-1)[..., IMAGE] == 0).all()


def test_image_id_is_where_the_tokenizer_put_it(tiny_config, randomise):
    model = VLM(tiny_config, image_id=7)
    randomise(model)
    ids = torch.tensor([[1, 7, 7, 7, 7, 2]])
    assert (model(ids, views=torch.rand(1, 3, 64, 128))[..., 7] == -float("inf")).all()


# ---------------------------------------------------------------------------------------------------------
# loss


def test_loss_is_the_sum_over_supervised_tokens_alone(tiny_model):
    ids, views = batch([[(64, 128)], [(64, 64)]], length=12)
    targets = torch.full_like(ids, IGNORE)
    targets[0, 7:10] = torch.tensor([5, 0, 264])
    targets[1, 11] = 77
    loss = tiny_model(ids, targets, views)
    logits = tiny_model.gpt.logits(tiny_model.gpt(tiny_model.embed(ids, tiny_model.encode(views))))
    picked = [(0, 7, 5), (0, 8, 0), (0, 9, 264), (1, 11, 77)]
    expected = sum(-logits[b, t].log_softmax(-1)[target] for b, t, target in picked)
    assert loss.num_tokens == 4
    torch.testing.assert_close(loss.total, expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(loss.mean, expected / 4, atol=1e-4, rtol=1e-5)
    assert loss.total.dtype == torch.float32


def test_loss_of_parts_adds_up_to_the_loss_of_the_whole(tiny_model):
    """Rows of unequal numbers of supervised tokens: sums and counts add, means would not."""
    ids, _ = batch([[], []], length=10)
    targets = torch.randint(0, 256, (2, 10))
    targets[1, 2:] = IGNORE
    whole = tiny_model(ids, targets)
    parts = [tiny_model(ids[i : i + 1], targets[i : i + 1]) for i in range(2)]
    assert whole.num_tokens == 12 == sum(part.num_tokens for part in parts)
    torch.testing.assert_close(whole.total, sum(part.total for part in parts), atol=1e-4, rtol=1e-5)


def test_gradient_comes_from_supervised_positions_alone(tiny_model):
    ids, _ = batch([[]], length=6)
    targets = torch.full_like(ids, IGNORE)
    targets[0, 2] = 9
    x = tiny_model.gpt.embed(ids).detach().requires_grad_()
    tiny_model.loss(tiny_model.gpt(x), targets).total.backward()
    assert (x.grad[0, 3:] == 0).all() and (x.grad[0, :3].abs().sum(-1) > 0).all()


def test_no_supervised_token_is_an_error_with_a_name(tiny_model):
    ids, _ = batch([[]], length=5)
    with pytest.raises(UsageError, match="supervised"):
        tiny_model(ids, torch.full_like(ids, IGNORE))


def test_every_parameter_learns_from_the_loss(tiny_model):
    ids, views = batch([[(64, 128)], [(128, 128)]])
    targets = torch.randint(0, 256, ids.shape)
    tiny_model(ids, targets, views).mean.backward()
    silent = [name for name, p in tiny_model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []


# ---------------------------------------------------------------------------------------------------------
# precision


def test_bf16_compute_is_close_and_keeps_fp32_masters(make_model):
    full, low = make_model(), make_model(compute_dtype=torch.bfloat16)
    ids, views = batch([[(64, 128)], [(128, 128)]])
    targets = torch.randint(0, 256, ids.shape)
    a, b = full(ids, views=views), low(ids, views=views)
    assert b.dtype == torch.float32
    probabilities, others = (logits[..., :IMAGE].softmax(-1) for logits in (a, b))
    assert (probabilities - others).abs().sum(-1).mean() < 0.1  # total variation is at most 2
    ours, theirs = full(ids, targets, views).mean, low(ids, targets, views).mean
    assert abs(ours - theirs) < 0.02 * ours
    theirs.backward()
    assert {p.dtype for p in low.parameters()} == {p.grad.dtype for p in low.parameters()} == {torch.float32}
    ours.backward()
    for p, q in zip(full.parameters(), low.parameters()):
        assert F.cosine_similarity(p.grad.flatten(), q.grad.flatten(), dim=0) > 0.9


def test_cache_has_the_compute_dtype(make_model):
    cache = make_model(compute_dtype=torch.bfloat16).new_cache(batch=2, capacity=5)
    assert cache.keys.dtype == torch.bfloat16 and cache.keys.shape == (2, 2, 4, 5, 8)
