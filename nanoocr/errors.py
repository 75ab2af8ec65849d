"""The errors that a user can cause, each with the exit code of the command line.

Every message is one sentence that names the thing (file, flag, key, value) and the mend. The command line
prints only the message, never a traceback; Python callers catch the class.
"""


class NanoOCRError(Exception):
    """Base class of errors that a user or the machine caused, and that are mostly no defect of this code."""

    exit_code = 2


class UsageError(NanoOCRError):
    """A wrong flag, value, preset or combination. Exit code 2."""


def require(condition: bool, message: str) -> None:
    """Raise UsageError with `message` unless `condition` holds."""
    if not condition:
        raise UsageError(message)


class PictureError(NanoOCRError):
    """A picture or page cannot be read. `kind` is one of the closed list below. Exit code 3.

    kinds: unreadable, too_large, encrypted, empty, missing
    """

    exit_code = 3

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


class CheckpointError(NanoOCRError):
    """A model or checkpoint is missing, damaged, or of another kind or version. Exit code 4."""

    exit_code = 4


class OutputError(NanoOCRError):
    """The results cannot be written. Exit code 6."""

    exit_code = 6


class BrokenRunError(NanoOCRError):
    """Another process of a run is gone or hangs. The run can continue with --resume. Exit code 7."""

    exit_code = 7


class DefectError(NanoOCRError):
    """An exception that nobody foresaw broke a run, so this code has a defect. Exit code 8.

    `trace` is the traceback, where the exception was raised in another process.
    """

    exit_code = 8

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class DivergedError(NanoOCRError):
    """A loss, a gradient or a weight of a training run is not finite. Exit code 9."""

    exit_code = 9


class NotBetterError(NanoOCRError):
    """A fine-tuned model reads no better, or has forgotten, so the base model is kept. Exit code 10."""

    exit_code = 10


class DoubtfulDataError(NanoOCRError):
    """Texts do not belong to their pictures, so nothing is trained on them. Exit code 11."""

    exit_code = 11
