"""Text compressed without a picture: the control of optical compression.

A picture gives the decoder fewer vectors than its text has characters. So does this: the embeddings of
`window` neighbouring characters become one vector, their mean. What a picture is worth is what it does better
than that (Lee, Yang and Berg-Kirkpatrick, arXiv 2512.03643).

Letters: B texts, T characters, N = T / window vectors, C width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nanoocr.errors import UsageError


class PooledText(nn.Module):
    """Means of neighbouring embeddings, from one table, or from one table for each place in the window.

    A mean forgets the order of what it is made of. With `placed` every place has a table of its own, so that
    the order stays; it is the same as one convolution whose kernel and stride are the window.
    """

    def __init__(self, embeddings_VC: Tensor, window: int, *, placed: bool) -> None:
        """The table starts as a copy of `embeddings_VC`; those of later places with shifted channels.

        Raises:
            UsageError: `window` is below 1.
        """
        super().__init__()
        if window < 1:
            raise UsageError(f"a window must hold at least 1 character, found {window}")
        self.window = window
        table, width = embeddings_VC.detach().float(), embeddings_VC.size(1)
        # Copies that are all alike would have the same gradients, and take long to tell the places apart.
        shifts = [place * width // window for place in range(window if placed else 1)]
        self.tables = nn.Parameter(torch.stack([table.roll(shift, dims=1) for shift in shifts]))  # (., V, C)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """(B, T) int64 ids -> (B, N, C) fp32.

        Raises:
            UsageError: T is not a multiple of the window.
        """
        if ids_BT.size(1) % self.window:
            raise UsageError(f"{ids_BT.size(1)} characters do not divide into windows of {self.window}")
        windows_BNW = ids_BT.unflatten(1, (-1, self.window))
        # With a single table, every place of the window is looked up in table 0.
        places_W = torch.arange(self.window, device=ids_BT.device) % len(self.tables)
        return self.tables[places_W, windows_BNW].mean(dim=2)
