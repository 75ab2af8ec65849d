"""Refuses rows that ask for something that is not done here, instead of passing over it in silence.

Trainers write such wishes beside an answer or beside the whole row: how much it counts, or that it is a bad
example. Other rows have videos, calls of tools, or boxes that a trainer writes into the text.
"""

from __future__ import annotations

from typing import Any

from nanoocr.data.rows import BadRowError

# One of these says whether, or how much, an answer counts. At a row, weight is Fireworks' form.
LEARNT_KEYS = (
    "loss", "weight", "train", "training", "trainable", "learn", "supervise", "train_on_turn", "loss_weight",
    "loss_scale", "loss_mask", "step_loss_mask", "train_detail", "sample_weight",
)  # fmt: skip
# Others say the opposite: the answer is only context.
UNLEARNT_KEYS = ("masked", "is_masked", "ignore_loss", "no_loss", "skip_loss")
YES, NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
# Rows of KTO (TRL, ms-swift, LLaMA-Factory) say so whether the answer is a good one. Elsewhere a label may be
# anything, so that false alone counts.
GOOD_KEYS = ("label", "kto_tag")
OTHER_MEDIA = ("videos", "video", "audios", "audio")
BOX_MARKS = ("<bbox>", "<ref-object>")  # ms-swift puts the row's `objects` in their place
# Where others keep pictures. Such a key may also be a note on a picture that the row has, or on none.
PICTURE_COLUMNS = (
    "image_path", "image_paths", "image_file", "image_files", "image_url", "image_urls", "image_list", "img",
    "imgs", "picture", "pictures",
)  # fmt: skip


def refuse_unread(record: dict[str, Any], name: str) -> None:
    """Check what stands beside the messages of a row.

    Raises:
        BadRowError: the row does not count once, is a bad example, or has videos, sounds or boxes.
    """
    # A text that is neither yes nor no, as in "train": "stage 1", is a note about the row.
    notes = {key for key, value in record.items() if isinstance(value, str) and _said(value) is None}
    refuse_unlearnt({key: value for key, value in record.items() if key not in notes}, name)
    for key in GOOD_KEYS:
        if record.get(key) is False:
            raise BadRowError(f"{name}: {key} is false, a bad example, and here every answer is learnt")
    for key in OTHER_MEDIA:
        if _holds(record.get(key)):
            raise BadRowError(f"{name}: has {key}, and only pictures are read here")
    if record.get("objects") and any(mark in str(record) for mark in BOX_MARKS):
        raise BadRowError(f"{name}: write the boxes into its texts in place of {BOX_MARKS[0]}")


def refuse_unlearnt(message: dict[str, Any], name: str) -> None:
    """Check what stands beside an answer, a part of one, or all answers of a row.

    Raises:
        BadRowError: the answer is only context, counts otherwise than once, or calls tools.
    """
    if message.get("tool_calls"):
        raise BadRowError(f"{name}: an answer calls tools, which is not learnt here")
    for key in (*LEARNT_KEYS, *UNLEARNT_KEYS):
        value = message.get(key)
        said = _said(value)
        if value is None or value != value or said is (key in LEARNT_KEYS):  # pandas writes nan for null
            continue
        if said is not None:
            raise BadRowError(f"{name}: {key} says not to learn an answer; here all of a row are learnt")
        raise BadRowError(f"{name}: {key} is {value!r}, and here every answer counts once: leave {key} out")


def _said(value: Any) -> bool | None:
    """Whether a value means yes or no, also as a number, a text or a list of one kind; None for any other."""
    if isinstance(value, list):
        each = {_said(one) for one in value}
        return each.pop() if len(each) == 1 else None
    text = str(value).strip().lower()
    return True if text in YES else False if text in NO else None


def unread_pictures(record: dict[str, Any]) -> str | None:
    """The key under which a row without pictures seems to keep some."""
    return next((key for key in PICTURE_COLUMNS if _holds(record.get(key))), None)


def _holds(value: Any) -> bool:
    """Whether a value says anything; forms for all rows leave it null or empty, also within a list."""
    return any(map(_holds, value)) if isinstance(value, list) else bool(value)
