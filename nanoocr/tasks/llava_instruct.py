"""LLaVA-Instruct-150K: conversations about COCO pictures, written by a language model.

The conversations are a JSON list (llava_instruct_150k.json of liuhaotian/LLaVA-Instruct-150K). The pictures
are those of COCO's train2017, in one folder.
"""

from __future__ import annotations

from pathlib import Path

from nanoocr.tasks.jsonl import Jsonl


class LlavaInstruct(Jsonl):
    """The JSON file, and the folder of pictures."""

    source = "llava_instruct"

    def __init__(
        self, path: str | Path, images: str, start: int = 0, stop: int | None = None, step: int = 1
    ) -> None:
        super().__init__(path, images, start, stop, step)
