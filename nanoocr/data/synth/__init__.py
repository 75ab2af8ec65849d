"""Synthetic documents with known text: drawn live for training, or written to Parquet.

    fonts = find_fonts()
    sample = make_sample("card", seed=0, index=7, fonts=fonts)
    sample.image, sample.answer

On the command line: python -m nanoocr.data.synth --kind=card --count=1000 --seed=0 --out=FILE.parquet
"""

from nanoocr.data.synth.fonts import HELD_OUT_FAMILIES, Font, find_fonts
from nanoocr.data.synth.make import ALL_KINDS, KINDS, QUESTION_KINDS, VALIDATION_SEED, make_sample
from nanoocr.data.synth.parquet import write_parquet
from nanoocr.data.synth.sample import SynthSample, to_row

__all__ = [
    "ALL_KINDS",
    "HELD_OUT_FAMILIES",
    "KINDS",
    "QUESTION_KINDS",
    "VALIDATION_SEED",
    "Font",
    "SynthSample",
    "find_fonts",
    "make_sample",
    "to_row",
    "write_parquet",
]
