"""OmniDocBench, versions 1.0 and 1.5: end-to-end scores with the official matching."""

from nanoocr.eval.omnidocbench.normalise import formula_edit_distance
from nanoocr.eval.omnidocbench.page import page_samples
from nanoocr.eval.omnidocbench.read import OmniPage, read_omnidocbench
from nanoocr.eval.omnidocbench.score import Average, Coverage, OmniReport, overall, score_omnidocbench

__all__ = [
    "Average",
    "Coverage",
    "OmniPage",
    "OmniReport",
    "formula_edit_distance",
    "overall",
    "page_samples",
    "read_omnidocbench",
    "score_omnidocbench",
]
