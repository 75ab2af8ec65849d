"""What all commands share: flags from a typed config, mistakes as one sentence, exit codes.

@dataclass(frozen=True)
class Config:
    steps: int = 1000  # becomes --steps=1000, this comment becomes its help

def main(argv: list[str] | None = None) -> None:
    config = parse(Config, argv)

if __name__ == "__main__":
    sys.exit(run(main))
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from nanoocr.errors import BrokenRunError, NanoOCRError, OutputError, UsageError

T = TypeVar("T")

INTERRUPTED = 130  # 128 + SIGINT, by Unix convention
OUT_OF_MEMORY = UsageError(
    "out of memory: take a smaller batch (of training: --micro_batch), or train with --recompute=True"
)
WORKER_GONE = BrokenRunError(
    "a process that prepares data was killed, most often because memory or /dev/shm was full: "
    "take fewer --workers and go on with --resume=True"
)
RANK_GONE = BrokenRunError(
    "another process of this run has ended: see why in its own last lines, then go on with --resume=True"
)
RANK_LATE = BrokenRunError(
    "another process of this run did not answer within --timeout_s: see which one hangs, "
    "then go on with --resume=True"
)
TORCH_SAYS = {  # phrases in the messages of plain RuntimeErrors, and what they mean
    "DefaultCPUAllocator: can't allocate memory": OUT_OF_MEMORY,
    "Cannot allocate memory": OUT_OF_MEMORY,  # a worker could not be forked
    "CUDA error: out of memory": OUT_OF_MEMORY,
    "DataLoader worker (pid": WORKER_GONE,
    "Connection closed by peer": RANK_GONE,  # gloo says this
    "Connection reset by peer": RANK_GONE,
    "Broken pipe": RANK_GONE,
    "remote process exited": RANK_GONE,  # NCCL says this
    "NCCL communicator was aborted": RANK_GONE,
    "Timed out waiting": RANK_LATE,  # gloo says this
    "Application timeout caused pair closure": RANK_LATE,
    "collective operation timeout": RANK_LATE,  # NCCL says this
    "wait timeout after": RANK_LATE,  # said when processes meet at the start
    "socket has timed out": RANK_LATE,
}


def parse(
    config_class: type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    config: Sequence[Any] = (),
) -> T:
    """Read `config_class` (a dataclass) from --key=value flags; argv None means the process's arguments.

    Booleans take a value like everything else (--wandb=True); both --batch_size and --batch-size work.
    A class may map old names of its fields to new ones in a ClassVar `RENAMED`; flags of the old names work
    too then, and each says once what it is called now. `config` passes further tyro.conf markers.

    Raises:
        UsageError: one sentence, for an unknown flag or a wrong type.
        SystemExit: 0, after --help has been printed.
    """
    import tyro  # imported here, because `nanoocr read` starts without it

    prog = prog or _program_name()
    words = with_home(sys.argv[1:] if argv is None else argv)
    words = with_new_names(words, getattr(config_class, "RENAMED", {}))
    refuse_unknown(words, [f"--{name}" for name in field_names(config_class)], prog)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            read = tyro.cli(
                config_class,
                args=spell_out_booleans(config_class, words),
                prog=prog,
                config=(tyro.conf.FlagConversionOff, *config),
                use_underscores=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        sentence = _sentence(printed.getvalue()) + _example(config_class, printed.getvalue())
        raise UsageError(f"{sentence} (see {prog} --help)") from None
    refuse_what_is_no_number(read)
    return read


def with_new_names(words: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Put the new names of flags in place of their old ones, and say on stderr, once each, what changed.

    `renamed` maps old names to new ones, both without dashes in front: {"task": "benchmark"}.
    """
    told, given = set[str](), []
    for word in words:
        flag, separator, value = word.partition("=")
        old = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and old in renamed:
            if old not in told:
                note = f"note: {flag} is called --{renamed[old]} now; the old name goes with the next release"
                print(note, file=sys.stderr)
            told.add(old)
            flag = f"--{renamed[old]}"
        given.append(flag + separator + value)
    return given


def with_home(words: Sequence[str]) -> list[str]:
    """Put the home folder in place of ~ at the start of a value: no shell does so in --out=~/model.

    Without this a folder called ~ would be made, or looked for, in the current one.
    """

    def home(match: re.Match[str]) -> str:
        """The flag and the folder that ~ or ~NAME stands for; what it cannot stand for remains."""
        return match[1] + os.path.expanduser(match[2])

    return [re.sub(r"^(--?[\w-]+=)(~[\w.-]*)(?=/|$)", home, word) for word in words]


def field_names(config_class: type) -> list[str]:
    """The names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(config_class)]


def refuse_unknown(words: Sequence[str], known: Sequence[str], prog: str) -> None:
    """Raise UsageError if a word is an unknown flag, and suggest the nearest known one."""
    spelt = {name.replace("-", "_") for name in (*known, "--help")}
    for word in words:
        # --optim.lr=1 names a field of a nested config; the first part is the known flag
        flag = re.split("[=.]", word)[0]
        if word.startswith("--") and word != "--" and flag.replace("-", "_") not in spelt:
            meant = nearest(flag, known)
            hint = f": did you mean {meant}?" if meant else ""
            raise UsageError(f"unknown flag {word}{hint} (see {prog} --help)")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most similar to this one; None where none is similar enough."""
    found = get_close_matches(word.replace("-", "_"), {one.replace("-", "_"): one for one in known}, 1)
    return next((one for one in known if found and one.replace("-", "_") == found[0]), None)


def refuse_what_is_no_number(config: Any) -> None:
    """Raise UsageError for nan and the infinities, which float() accepts and which fail late or never."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and not math.isfinite(value) and value is not field.default:
            raise UsageError(f"--{field.name}={value}: give a number, as in --{field.name}=0.5")


def _example(config_class: type, box: str) -> str:
    """`, as in --steps=2000`: the default of the flag that tyro complains about."""
    for field in dataclasses.fields(config_class):
        about = re.search(rf"(parsing|argument) \W?--{field.name.replace('_', '[-_]')}\b", box)
        if about and isinstance(field.default, bool | int | float) and field.default is not None:
            return f", as in --{field.name}={field.default}"
    return ""


def spell_out_booleans(config_class: type, argv: Sequence[str]) -> list[str]:
    """Turn `--resume` into `--resume=True` where `resume` is a field of type bool."""
    types = {"--" + field.name: str(field.type) for field in dataclasses.fields(config_class)}
    following = [*argv[1:], "--"]
    return [
        f"{flag}=True" if types.get(flag) in ("bool", str(bool)) and after.startswith("-") else flag
        for flag, after in zip(argv, following)
    ]


def run(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> int:
    """Call a script's main and return its exit code. A user's mistake becomes one line on stderr."""
    open_standard_files()
    # Pillow warns about odd metadata in foreign files, but stderr is for things that the user can act on.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # If stderr is closed, print would write to stdout instead and mix messages into the results.
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
    try:
        code = main(argv)
        # If the process that reads our output is gone, it shows here and not at interpreter exit.
        if sys.stdout is not None:
            sys.stdout.flush()
        return code or 0
    except BrokenPipeError:
        # `nanoocr read ... | head` is no mistake. Python flushes stdout once more at exit, so it needs a
        # sink.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (NanoOCRError, KeyboardInterrupt, MemoryError, RuntimeError, OSError) as error:
        known = ending(error)
        if known is None:
            raise
        print(known[1], file=sys.stderr)
        return known[0]


def open_standard_files() -> None:
    """Open what is closed of the files 0, 1 and 2 as /dev/null.

    Else a socket or a pipe to another process would get such a number, and be closed or written to by
    whatever means stdin or stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one. Processes that we start need it open as well.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def ending(error: BaseException) -> tuple[int, str] | None:
    """Exit code and last line of a command that ends with `error`; None for a defect of the program."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    known = error if isinstance(error, NanoOCRError) else in_our_words(error)
    return None if known is None else (known.exit_code, on_one_line(f"error: {known}"))


def on_one_line(text: str) -> str:
    r"""Put a message on one line, without control characters, which file names may hold: \n, \x1b."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


def in_our_words(error: BaseException) -> NanoOCRError | None:
    """An error whose message says what the machine or another process did; None for a defect."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OUT_OF_MEMORY
    if not isinstance(error, RuntimeError | OSError):
        return None
    if found := [known for words, known in TORCH_SAYS.items() if words in str(error)]:
        return found[0]
    if isinstance(error, OSError):
        # Reading has errors of its own. What remains is output: a full disk, or a folder that is not ours.
        return OutputError(f"{error.filename or 'output'}: {error.strerror or error}")
    return None


def _program_name() -> str:
    """`python -m scripts.tok_train` for modules, the file's name for installed commands."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and not spec.name.startswith("pytest"):
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return Path(sys.argv[0]).name


def _sentence(box: str) -> str:
    """Extract the sentence from tyro's titled box (message, rule, suggestions, rule, help), with its flag."""
    plain = re.sub(r"\x1b\[[0-9;]*m|[\u2500-\u257f]", " ", box)  # remove colours and box-drawing characters
    lines = [line.strip(" |+") for line in plain.splitlines()[1:]]
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip("- "):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    message = " ".join(" ".join(blocks[0]).split())
    flags = [line.split()[0] for block in blocks[1:] for line in block if line.startswith("--")]
    if message.startswith("Unrecognized") and flags:
        return f"{message}; did you mean {flags[0]}?"
    return message or " ".join(plain.split())
