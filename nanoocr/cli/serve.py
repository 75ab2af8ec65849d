"""The command `nanoocr serve`: a server with OpenAI's interface, and a web page for dropping pictures."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nanoocr.cli.flags import MODEL_HELP, Parser, positive
from nanoocr.errors import UsageError

if TYPE_CHECKING:
    from nanoocr.serve.process import Choice

SERVE_HELP = """\
Serves OpenAI's interface: set the base_url of a client to http://HOST:PORT/v1. A browser finds a page at
http://HOST:PORT/. After SIGTERM the server finishes the requests that it is reading.
"""


NO_SUCH_HOST = (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL)


def add_serve_flags(serve: Parser) -> None:
    """Add the flags of `nanoocr serve`."""
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    serve.add_argument("--port", metavar="N", type=positive, default=8000, help="port (default: %(default)s)")
    serve.add_argument("--model", metavar="DIR", type=Path, help=MODEL_HELP)
    serve.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    serve.add_argument(
        "--dtype",
        metavar="NAME",
        default="auto",
        help="float32, bfloat16, or auto: bfloat16 where the processor has it natively (default: auto)",
    )
    serve.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        help="processors to use (default: OMP_NUM_THREADS, or the idle ones)",
    )
    serve.add_argument(
        "--api_key_file",
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help="ask clients for one of the keys in this file, one a line (default: none is asked for)",
    )
    serve.add_argument(
        "--any_prompt",
        "--any-prompt",
        action="store_true",
        help="read a picture also where the model does not see the text that is sent with it, and say so in "
        "the answer's warnings (default: such a request is refused)",
    )
    serve.add_argument(
        "--allow_fetch",
        "--allow-fetch",
        metavar="HOST,...",
        help="fetch pictures at http(s) addresses of these hosts (HOST or HOST:PORT), never at a private "
        "address (default: no address is fetched)",
    )
    for name, default, what in (
        ("max_body_mb", 64, "accept requests up to this size in MiB"),
        ("max_queue", 128, "accept this many requests at a time; others are told to come again"),
        ("max_pages", 200, "accept documents up to this many pages"),
        ("timeout_s", 600, "end a request after this many seconds"),
    ):
        serve.add_argument(
            f"--{name}",
            f"--{name.replace('_', '-')}",
            metavar="N",
            type=positive,
            default=default,
            help=f"{what} (default: %(default)s)",
        )


def serve_command(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        UsageError: the extra `serve` is not installed, or the file of keys is unreadable or empty.
    """
    try:
        import uvicorn

        from nanoocr.serve.app import Limits, make_app
        from nanoocr.serve.connection import Connection, Server, most_connections
        from nanoocr.serve.fetch import parse_hosts
        from nanoocr.serve.process import ProcessDesk
    except ModuleNotFoundError as error:
        raise UsageError(
            f"nanoocr serve needs {error.name}: pip install 'nano-deepseek-ocr[serve]'"
        ) from error

    keys = read_keys(arguments.api_key_file) if arguments.api_key_file else ()
    if arguments.allow_fetch is not None:
        parse_hosts(arguments.allow_fetch)  # raises here and not in the other process
    limits = Limits(
        max_body=arguments.max_body_mb * 2**20,
        max_queue=arguments.max_queue,
        timeout_s=arguments.timeout_s,
        keys=keys,
    )
    listening = listen(arguments.host, arguments.port)
    desk = ProcessDesk(choice_of(arguments))
    app = make_app(desk, limits)

    # Whatever happens, the other process is told to end: it ignores signals, and Python would wait for it.
    with contextlib.closing(desk):
        config = uvicorn.Config(
            app,
            http=Connection,
            limit_concurrency=most_connections(),
            ws="none",
            log_level="error",  # its warnings are a line for each odd request: anybody could fill the log
            use_colors=False,  # else it asks stdout, which may be closed
            timeout_graceful_shutdown=int(arguments.timeout_s),
            server_header=False,
        )
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(f"serving {desk.name} at http://{host}:{arguments.port}/", file=sys.stderr)
        gc.freeze()  # all of this stays: looking through it for garbage would only hold the loop up
        Server(config).run([listening])
    return 0


def choice_of(arguments: argparse.Namespace) -> Choice:
    """What the process that reads is made of."""
    from nanoocr.serve.process import Choice

    return Choice(
        model=arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        threads=arguments.threads,
        max_pages=arguments.max_pages,
        any_prompt=arguments.any_prompt,
        hosts=arguments.allow_fetch,
        max_body=arguments.max_body_mb * 2**20,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address, from before the model is loaded: it keeps others from taking it.

    Raises:
        UsageError: nobody can listen there; uvicorn would end with a traceback.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        number = error.errno if isinstance(error, OSError) else None
        no_such_host = isinstance(error, UnicodeError) or number in NO_SUCH_HOST
        mend = "--host=127.0.0.1" if no_such_host else "--port=8001"
        # socket adds its own words to those of the system.
        message = f"nothing can listen there ({reason.partition(' (while')[0].rstrip('.')}): try {mend}"
        raise UsageError(f"--host={host} --port={port}: {message}") from error


def read_keys(path: Path) -> tuple[str, ...]:
    """Read the keys in a file, one a line.

    Raises:
        UsageError: the file is unreadable, or has no key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"--api_key_file={path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--api_key_file={path} is no text in UTF-8: save it as such") from error
    keys = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not keys:
        raise UsageError(f"--api_key_file={path} holds no key: write one a line")
    return keys
