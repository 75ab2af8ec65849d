"""Requests to a server of the tests that wait as long as a busy machine needs."""

from __future__ import annotations

from typing import Any

import httpx


def post(*arguments: Any, **options: Any) -> httpx.Response:
    """httpx.post with patience: on a busy machine its five seconds are none."""
    return httpx.post(*arguments, **{"timeout": 120, **options})
