"""The 962M model for real: minutes and 10 GB, so only on demand (pytest -m full_size)."""

from __future__ import annotations

import pytest

from scripts.bench import full_size as check_full_size


@pytest.mark.full_size
def test_full_size_model():
    assert check_full_size.main([]) == 0
