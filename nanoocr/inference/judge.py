"""What the model says in place of every token that is proposed to it: many tokens of many rows in one pass.

Letters: B rows of the cache, P tokens fed, A of them asked, C width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from nanoocr.model.cache import KVCache
from nanoocr.model.vlm import VLM

# Tokens that go through the model together: so many that their products are large, and so few that what lies
# between two layers stays in the caches of a CPU. A GPU takes all that a batch may have.
CPU_TOKENS, GPU_TOKENS = 2560, 2**16


class Judged(NamedTuple):
    """What the model says in a row in place of every proposed token, and behind the last of them."""

    ids: list[int]
    probabilities: list[float]  # of these ids
    logits_V: Tensor  # noqa: N815 - a shape; those of the last id, for whoever chooses another one


@torch.inference_mode()
def judge(
    model: VLM,
    cache: KVCache,
    inputs: Sequence[Sequence[int]],
    proposals: Sequence[Sequence[int]],
    vision: Tensor | None,
    never: Tensor,
) -> list[Judged]:
    """Feed inputs and proposals; returns what each row says in place of each proposed token and at the end.

    Of ids there is one more than tokens are proposed. `vision` (N, C) stands for the
    picture's ids of all inputs, one row behind the other; `never` (V,) bool are ids that are never said.

    Raises:
        ValueError: a row does not fit into the cache.
    """
    counts = [len(given) + len(proposed) for given, proposed in zip(inputs, proposals, strict=True)]
    most = int((cache.lengths + torch.tensor(counts, device=cache.lengths.device)).max())
    cache.reserve(most)  # grown before it is cut into parts, which must not grow on their own
    judged: list[Judged] = []
    seen = 0  # how many vision tokens the rows before have
    for first, end in portions(counts, CPU_TOKENS if model.device.type == "cpu" else GPU_TOKENS):
        pictures = sum(given.count(model.image_id) for given in inputs[first:end])
        own = None if vision is None else vision[seen : seen + pictures]
        seen += pictures
        part = cache.part(first, end)
        judged += judge_part(model, part, inputs[first:end], proposals[first:end], own, never)
    cache.used = most
    return judged


def portions(counts: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Neighbouring rows, from the first to before the end, with at most so many tokens, or one row."""
    first, tokens = 0, 0
    for row, count in enumerate(counts):
        if row > first and tokens + count > most:
            yield first, row
            first, tokens = row, 0
        tokens += count
    yield first, len(counts)


def judge_part(
    model: VLM,
    cache: KVCache,
    inputs: Sequence[Sequence[int]],
    proposals: Sequence[Sequence[int]],
    vision: Tensor | None,
    never: Tensor,
) -> list[Judged]:
    """As `judge`, in one pass."""
    lines = [[*given, *proposed] for given, proposed in zip(inputs, proposals, strict=True)]
    packed = cache.pack([len(line) for line in lines])
    ids_1P = torch.tensor([[token for line in lines for token in line]], device=model.device)
    # Only what stands behind an input's last token and behind each proposed one is asked.
    ends = list(accumulate(map(len, lines)))
    spans = [range(end - len(proposed) - 1, end) for end, proposed in zip(ends, proposals, strict=True)]
    places = [place for span in spans for place in span]
    asked = None if len(places) == ids_1P.size(1) else torch.tensor(places, device=model.device)
    hidden_1AC = model.gpt(model.embed(ids_1P, vision), cache, packed=packed, asked=asked)
    logits_AV = model.logits(hidden_1AC[0])
    ids_A = logits_AV.masked_fill(never, float("-inf")).argmax(-1)
    chosen_A = logits_AV.gather(-1, ids_A[:, None])[:, 0] - logits_AV.logsumexp(-1)
    ids, probabilities = ids_A.tolist(), chosen_A.exp().tolist()
    ends = list(accumulate(len(proposed) + 1 for proposed in proposals))
    last_BV = logits_AV[[end - 1 for end in ends]]
    rows = zip([0, *ends], ends, last_BV)
    return [Judged(ids[a:b], probabilities[a:b], logits_V) for a, b, logits_V in rows]
