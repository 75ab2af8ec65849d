"""What memory a process holds, counted."""

from __future__ import annotations

import mmap

import pytest

from nanoocr.machine import counted, peak_resident


@pytest.mark.skipif(counted("VmRSS") is None, reason="no /proc")
def test_the_peak_stays_and_what_is_held_goes_back():
    before, size = counted("VmRSS"), 200 * 2**20
    block = mmap.mmap(-1, size)  # from the kernel, where numpy may get what an earlier test gave back
    block.write(bytes(size))
    held = counted("VmRSS")
    assert held - before > 0.8 * size
    block.close()
    assert counted("VmRSS") < held - 0.8 * size
    assert peak_resident() > 0.9 * held  # the two counters are not exact
    assert counted("VmRSS", 2**30) is None  # no such process
