"""The errors a user can cause, each with the exit code that the command line ends in.

Every message is one sentence that names the thing (file, flag, key, value) and the mend. The command
line prints the message alone, never a traceback; Python callers catch the class.
"""


class NanoOCRError(Exception):
    """Base of all errors that are somebody's mistake and not a defect of this code."""

    exit_code = 2


class UsageError(NanoOCRError):
    """A wrong flag, value, preset or combination. Exit code 2."""


class PictureError(NanoOCRError):
    """A picture or page that cannot be read. `kind` is one of the closed list below. Exit code 3.

    kinds: unreadable, too_large, encrypted, empty, missing
    """

    exit_code = 3

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


class CheckpointError(NanoOCRError):
    """A model or checkpoint that is missing, damaged, or of another kind or version. Exit code 4."""

    exit_code = 4


class OutputError(NanoOCRError):
    """The results cannot be written. Exit code 6."""

    exit_code = 6


class BrokenRunError(NanoOCRError):
    """Another process of a run is gone or hangs: nobody's mistake here, go on with --resume. Exit code 7."""

    exit_code = 7


class DefectError(NanoOCRError):
    """A run broke by an exception that nobody foresaw: a defect of this code. Exit code 8.

    `trace` is the traceback where it happened in another process than the one that tells of it.
    """

    exit_code = 8

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class DivergedError(NanoOCRError):
    """A training run in which a loss, a gradient or a weight is no finite number. Exit code 9."""

    exit_code = 9


class NotBetterError(NanoOCRError):
    """A fine-tuned model that reads no better, or forgets: the base model is kept. Exit code 10."""

    exit_code = 10


class DoubtfulDataError(NanoOCRError):
    """Texts that do not belong to their pictures: nothing is trained on them. Exit code 11."""

    exit_code = 11
