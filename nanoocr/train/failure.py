"""A run that breaks says one sentence, keeps the traceback in a file, and ends.

The processes that make batches end with the generator (nanoocr/data/processes.py), other ranks because the
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

TRACES = "error.log"  # in the run's folder


@contextmanager
def in_one_sentence(run: Path, world: World) -> Iterator[None]:
    """Within, what nobody foresaw becomes a DefectError whose traceback lies in <run>/error.log.

    What is somebody's mistake or the machine's doing has a sentence already and passes.
    """
    try:
        yield
    except DefectError as error:  # of a process that makes batches
        raise told(run, world, str(error), error.trace) from error
    # These are somebody's mistake or the machine's doing, and their sentence says what to do.
    except NanoOCRError:
        raise
    except Exception as error:
        if in_our_words(error):
            raise
        raise told(run, world, in_a_line(error), traceback.format_exc()) from error


def told(run: Path, world: World, what: str, trace: str) -> DefectError:
    """The error that a user sees; the traceback is added to the log, or said where that cannot be written."""
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
