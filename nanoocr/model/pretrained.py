"""The address of nanoocr/pretrained/load.py in the release before."""

from __future__ import annotations

from nanoocr.moved import moved

__getattr__ = moved(
    __name__,
    {
        "Report": "nanoocr.model.folder",
        **dict.fromkeys(
            (
                *("load_sam", "load_clip", "load_gpt"),
                *("load_deepseek_ocr_encoder", "load_component", "set_weights", "encoder_for_deepseek_ocr"),
                "gpt_for_transformers",
            ),
            "nanoocr.pretrained.load",
        ),
        **dict.fromkeys(("WeightSource", "SAM", "CLIP", "DEEPSEEK_OCR"), "nanoocr.pretrained.names"),
    },
)
