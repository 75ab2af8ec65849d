"""The tuned model is taken as far as drawn lines are kept, and what was found is not looked for again."""

import pytest
import torch

from nanoocr.finetune import blend as module
from nanoocr.finetune.blend import blend
from nanoocr.inference.reader import default_model_folder
from nanoocr.model.folder import load_model, save_model


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The packaged model with every weight moved by one."""
    folder = tmp_path_factory.mktemp("models") / "tuned"
    model, tokenizer = load_model(default_model_folder())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    save_model(folder, model, tokenizer)
    return folder


def cers(monkeypatch, *values):
    """Each model that is asked about drawn lines has the next of these error rates."""
    left = iter(values)
    monkeypatch.setattr(module, "_drawn_cer", lambda *_: next(left))


@pytest.mark.parametrize(
    ("after", "share"),
    [
        ((0.101,), 1.0),  # of all tuned weights
        ((0.3, 0.101, 0.3, 0.101), 0.625),  # of all, .5, .75, .625
        ((0.3, 0.3, 0.3, 0.101), 0.125),  # of all, .5, .25, .125
        ((0.3, 0.3, 0.3, 0.3), 0.125),
    ],
)
def test_the_largest_share_that_forgets_nothing_is_taken(tuned, tmp_path, monkeypatch, after, share):
    cers(monkeypatch, 0.1, *after)
    told = blend(default_model_folder(), tuned, tmp_path / "blend", 8, "cpu")
    assert told["share"] == share and len(told["drawn"]) == 1 + len(after)
    weights, _ = load_model(tmp_path / "blend")
    base, _ = load_model(default_model_folder())
    moved = [
        float((p - q).detach().mean()) for p, q in zip(weights.parameters(), base.parameters(), strict=True)
    ]
    assert all(abs(by - share) < 1e-3 for by in moved)
    assert blend(default_model_folder(), tuned, tmp_path / "blend", 8, "cpu") == told  # nothing is read again
