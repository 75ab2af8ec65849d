"""`nanoocr push MODEL OWNER/NAME`: sends a model folder to a hub. Without --yes it only lists the files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nanoocr.cli.flags import Parser

PUSH_HELP = """\
Sends weights, configuration, tokenizer, card and numbers to a hub (extra `hub`; HF_ENDPOINT and HF_TOKEN as
that library takes them). Without --yes it sends nothing, and lists the files. The report shows lines of your
own pages and is sent only with --with_report.
"""


def add_push_flags(parser: Parser) -> None:
    """Add the flags of `nanoocr push`."""
    add: Any = parser.add_argument
    add("model", metavar="MODEL", help="model folder, as `nanoocr finetune` writes it")
    add("repo", metavar="OWNER/NAME", help="the model's name on the hub")
    add("--yes", action="store_true", help="send the files; without this flag they are only listed")
    add("--public", action="store_true", help="let everybody see the model (default: private)")
    add("--with_report", "--with-report", action="store_true", help="send the report with its pictures, too")


def push_command(arguments: argparse.Namespace) -> int:
    """List the files that would be sent, and send them with --yes."""
    from nanoocr.cli.output import opened, write
    from nanoocr.finetune.push import plan_upload, push

    upload = plan_upload(arguments.model, arguments.repo, with_report=arguments.with_report)
    with opened("-") as out:
        for here, there in upload.files:
            write(out, f"{here} -> {upload.repo}/{there} ({here.stat().st_size:,} bytes)\n", "-")
        if not arguments.yes:
            print(f"nothing was sent: give --yes to send {upload.size:,} bytes", file=sys.stderr)
            return 0
        write(out, push(upload, private=not arguments.public) + "\n", "-")
    return 0
