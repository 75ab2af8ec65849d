"""The command `nanoocr`: read pictures (read.py), show, tune and push a model, take in and give out weights.

Results on stdout, everything else on stderr. Exit codes: 0 all read, 2 wrong usage, 3 nothing could be read,
4 model unusable, 5 some inputs failed and the others were read, 6 output not writable, 10 a fine-tuned model
that is not better, 11 texts that do not belong to their pictures, 130 interrupted.
Heavy imports stand inside the commands, so that --help and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanoocr.cli.batch import BATCH_HELP, add_batch_flags, batch_command
from nanoocr.cli.finetune import FINETUNE_HELP, add_finetune_flags, finetune_command
from nanoocr.cli.flags import (
    READ_HELP,
    Parser,
    add_read_flags,
    model_path,
    refuse_empty_values,
    refuse_unknown_command,
    refuse_unknown_flags,
)
from nanoocr.cli.output import opened, write
from nanoocr.cli.push import PUSH_HELP, add_push_flags, push_command
from nanoocr.cli.read import read_command
from nanoocr.cli.serve import SERVE_HELP, add_serve_flags, serve_command
from nanoocr.commandline import run

CONVERT_HELP = """\
SRC is a hub name OWNER/NAME@REVISION (without a revision: the commit pinned in nanoocr/pretrained/files.py,
or else main), a folder, or a file. What no source brings is fresh. Every key of a source is loaded or known
to be useless; anything else ends the conversion.
"""


COLLECT_AFTER = 50_000  # new objects between two looks for garbage; Python's 700 to 2,000 suit small programs


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    spare_collector()
    return run(_main, argv)


def spare_collector() -> None:
    """Let Python's garbage collector look less often while torch is imported, and not at all at the end.

    torch brings some 300,000 objects that live as long as the process. To look through them again and again
    was a third of the processor time of `nanoocr read` of one picture, and most of that at the very end.
    """
    gc.set_threshold(max(COLLECT_AFTER, gc.get_threshold()[0]), *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # what is frozen is not looked through when the interpreter ends


def _main(argv: list[str] | None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser, commands = _parser()
    refuse_unknown_command(argv, commands)
    refuse_empty_values(argv)
    arguments, unknown = parser.parse_known_args(argv)
    refuse_unknown_flags(unknown, commands[arguments.name])
    return arguments.command(arguments)


# ---------------------------------------------------------------------------------------------------
# Flags


def _parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of everything, and that of each command by its name."""
    parser = Parser(prog="nanoocr", description="Read text from pictures.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser, dest="name")
    commands: dict[str, Parser] = {}

    def add(name: str, command: Callable[[argparse.Namespace], int], about: str, more: str = "") -> Parser:
        """A subcommand: `about` stands in the list of all, `more` in its own help."""
        added = parsers.add_parser(name, help=about, description=more or None, allow_abbrev=False)
        added.set_defaults(command=command)
        commands[name] = added
        return added

    add_read_flags(add("read", read_command, "read pictures and pages of PDFs and TIFFs", READ_HELP))
    add_batch_flags(
        add("batch", batch_command, "read a great many files, and go on after anything", BATCH_HELP)
    )
    add_serve_flags(add("serve", serve_command, "serve OpenAI's interface and a web page", SERVE_HELP))
    info = add("info", info_command, "show what a model is")
    info.add_argument(
        "--model", metavar="DIR", type=model_path, help="model or run folder (default: the package's)"
    )
    info.add_argument("--json", action="store_true", help="print one JSON object")
    _add_convert_flags(
        add("convert", convert_command, "make a model folder of others' weights", CONVERT_HELP)
    )
    add_finetune_flags(add("finetune", finetune_command, "train on pages of your own", FINETUNE_HELP))
    add_push_flags(add("push", push_command, "send a model folder to a hub", PUSH_HELP))
    export = add("export", export_command, "give a model to others' tools")
    export.add_argument(
        "--model", metavar="DIR", type=model_path, help="model or run folder (default: the package's)"
    )
    export.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="gets gpt/ (transformers) and encoder/ (DeepSeek-OCR keys)",
    )
    return parser, commands


def _add_convert_flags(convert: Parser) -> None:
    convert.add_argument("--out", metavar="DIR", required=True, help="the model folder to write")
    convert.add_argument("--preset", default="d20", help="sizes of the encoder (default: %(default)s)")
    convert.add_argument("--sam", metavar="SRC", default="", help="SAM-ViT, as facebook/sam-vit-base")
    convert.add_argument(
        "--clip", metavar="SRC", default="", help="CLIP-ViT, as openai/clip-vit-large-patch14"
    )
    convert.add_argument(
        "--deepseek_ocr",
        "--deepseek-ocr",
        metavar="SRC",
        default="",
        help="the whole encoder, as deepseek-ai/DeepSeek-OCR",
    )
    convert.add_argument(
        "--deepencoder",
        metavar="FILE",
        default="",
        help="the whole encoder: a deepencoder_NNNNNN.safetensors of stage 1",
    )
    convert.add_argument(
        "--gpt", metavar="SRC", default="", help="nanochat's GPT, as nanochat-students/base-d20"
    )
    convert.add_argument(
        "--tokenizer", metavar="FILE", default="", help="tokenizer.json of ours or nanochat's tokenizer.pkl"
    )
    convert.add_argument("--seed", metavar="N", type=int, default=0, help="of the weights no source brings")
    convert.add_argument(
        "--verify", action="store_true", help="refuse a GPT that does not know English; print what it says"
    )


class _Version(argparse.Action):
    """Looks the version up only when asked: that is not free."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"nanoocr {version('nano-deepseek-ocr')}")
        parser.exit()


# ---------------------------------------------------------------------------------------------------
# nanoocr info


def info_command(arguments: argparse.Namespace) -> int:
    """Print what a model folder holds, after checking its files against their sha256."""
    facts = model_facts(arguments.model)
    with opened("-") as out:
        if arguments.json:
            write(out, json.dumps(facts) + "\n", "-")
            return 0
        for name, value in facts.items():
            entries = value.items() if isinstance(value, dict) else [("", value)]
            write(out, "".join(f"{f'{name} {key}'.strip():<28} {entry}\n" for key, entry in entries), "-")
    return 0


def model_facts(folder: Path | None) -> dict[str, Any]:
    """Configuration, parameters by part and checksums of a model folder; loads no weights.

    Raises:
        CheckpointError: the folder is missing, damaged, or of another format version.
    """
    import torch

    from nanoocr.files import read_folder, read_manifest
    from nanoocr.inference.reader import default_model_folder
    from nanoocr.model.folder import CONFIG, SHARDS, STATE, empty_model, model_folder, read_config
    from nanoocr.model.vlm import count_parameters

    folder = model_folder(folder or default_model_folder())
    files = read_folder(folder, skip=(STATE, SHARDS))
    config = read_config(files.get(CONFIG, b""), folder / CONFIG)
    model = empty_model(config)
    parts = {
        "sam": model.encoder.sam_model,
        "clip": model.encoder.vision_model,
        "projector": model.encoder.projector,
        "gpt": model.gpt,
        "total": model,
    }
    return {
        "folder": str(folder),
        "preset": config.name,
        "views": " ".join(f"{height}x{width}" for height, width in config.views),
        "vocabulary": config.gpt.vocab_size,
        "sequence": config.gpt.sequence_len,
        "parameters": {name: count_parameters(part) for name, part in parts.items()},
        "about": json.loads(files[CONFIG]).get("about", {}),
        "sha256": {name: entry["sha256"] for name, entry in read_manifest(folder)["files"].items()},
        "torch": torch.__version__,
    }


# ---------------------------------------------------------------------------------------------------
# nanoocr convert, nanoocr export


def convert_command(arguments: argparse.Namespace) -> int:
    """Others' weights as a model folder; says what was loaded, what is new and what was dropped."""
    from nanoocr.pretrained.convert import Sources, convert

    sources = Sources(
        sam=arguments.sam,
        clip=arguments.clip,
        deepseek_ocr=arguments.deepseek_ocr,
        deepencoder=arguments.deepencoder,
        gpt=arguments.gpt,
        tokenizer=arguments.tokenizer,
    )
    done = convert(
        sources, arguments.out, preset_name=arguments.preset, seed=arguments.seed, verify=arguments.verify
    )
    lines = [
        *map(str, done.reports),
        f"random from seed {arguments.seed}: {', '.join(done.fresh) or 'nothing'}",
    ]
    with opened("-") as out:
        for line in lines if done.check is None else [*lines, str(done.check)]:
            write(out, f"{line}\n", "-")
    print(f"wrote {arguments.out}", file=sys.stderr)
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """A model folder as a transformers folder and a DeepSeek-OCR encoder."""
    from nanoocr.inference.reader import default_model_folder
    from nanoocr.pretrained.convert import export

    counts = export(str(arguments.model or default_model_folder()), arguments.out)
    with opened("-") as out:
        write(out, "".join(f"{Path(arguments.out) / part}: {n} tensors\n" for part, n in counts.items()), "-")
    return 0
