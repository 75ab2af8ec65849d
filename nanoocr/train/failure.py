"""A run that breaks prints one sentence, writes the traceback to a file, and ends.

The worker processes end with the generator (nanoocr/data/processes.py). Other ranks end because their
connection breaks (`nanoocr.train.distributed.member`).
"""

from __future__ import annotations

import datetime
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanoocr.commandline import in_our_words
from nanoocr.data.processes import in_a_line
from nanoocr.errors import DefectError, NanoOCRError
from nanoocr.train.distributed import World

TRACES = "error.log"  # it lies in the run's folder


@contextmanager
def in_one_sentence(run: Path, world: World) -> Iterator[None]:
    """Turn an unforeseen exception into a DefectError, and write its traceback to <run>/error.log.

    Errors that a user or the machine caused have a sentence already, and pass through.
    """
    try:
        yield
    except DefectError as error:  # a worker process met the defect
        raise told(run, world, str(error), error.trace) from error
    # These are somebody's mistake or the machine's doing, and their sentence says what to do.
    except NanoOCRError:
        raise
    except Exception as error:
        if in_our_words(error):
            raise
        raise told(run, world, in_a_line(error), traceback.format_exc()) from error


def told(run: Path, world: World, what: str, trace: str) -> DefectError:
    """Make the error that the user sees. The traceback goes to the log, or to the message if that fails."""
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        run.mkdir(parents=True, exist_ok=True)
        # Appended, since several ranks may break at the same moment.
        with open(run / TRACES, "a", encoding="utf-8") as log:
            log.write(f"{now} rank {world.rank}\n{trace}\n")
        where = f"is in {run / TRACES}"
    except OSError:
        print(trace, file=sys.stderr)
        where = "stands above"
    return DefectError(
        f"the run broke ({what}): a defect of this code and not your mistake; the traceback {where}, "
        "and --resume=True goes on from the newest step"
    )
