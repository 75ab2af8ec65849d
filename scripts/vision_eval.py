"""Scores a model, a peer or somebody's predictions on a benchmark, with a control for looking.

python -m scripts.vision_eval --out=out/synthetic
python -m scripts.vision_eval --model=tesseract --benchmark=folder --data=assets/samples --out=out/tesseract
python -m scripts.vision_eval --predictions=DIR --benchmark=manifest --data=DIR --out=out/theirs

Every question is asked three times: about its own picture, another sample's, and a blank one (the grounding
control, nanoocr/eval/grounding.py). Answers are written to --out at once, so an interrupted run continues
where it was. The last line on stdout is JSON; results.json in --out also has every page's scores.
"""

from __future__ import annotations

import sys

from nanoocr.cli.evaluate import evaluate_command
from nanoocr.commandline import run


def main(argv: list[str] | None = None) -> int:
    """Evaluate, print, and end with one line of JSON; the same as `nanoocr evaluate`."""
    return evaluate_command(sys.argv[1:] if argv is None else argv, "python -m scripts.vision_eval")


if __name__ == "__main__":
    sys.exit(run(main))
