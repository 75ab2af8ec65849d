"""`nanoocr evaluate`: scores a model, another engine, or somebody's predictions on a benchmark.

Its flags are the fields of VisionEvalConfig, so they are read by `commandline.parse` and not by argparse, as
in `python -m scripts.vision_eval`, which is the same command in a clone.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

EVALUATE_HELP = "score a model on a benchmark"


def evaluate_command(argv: Sequence[str], prog: str = "nanoocr evaluate") -> int:
    """Evaluate, print tables, and end stdout with one line of JSON.

    `argv` is what follows the name of the command; `prog` is how messages and results name the command.

    Raises:
        UsageError: a flag is unknown or its value is wrong.
        PictureError, CheckpointError: the benchmark's files or the model cannot be read.
    """
    # Imported here, because `nanoocr --help` is answered without torch and rich.
    from nanoocr.commandline import parse
    from nanoocr.eval.console import print_results, result_console
    from nanoocr.eval.evaluate import VisionEvalConfig, evaluate

    config = parse(VisionEvalConfig, argv, prog=prog)
    results = evaluate(config, shlex.join([*prog.split(), *argv]))
    print_results(results, result_console())
    print(json.dumps({key: value for key, value in results.items() if key != "shown"}))
    return 0
