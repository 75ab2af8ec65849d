"""A finished model folder on a hub, with its card: first shown, and sent only where that is asked for.

huggingface_hub (extra `hub`) talks to the hub; HF_ENDPOINT names another one than the public, and the token
is taken from where that library keeps it. Nothing of a training state is sent, and no picture: a report shows
lines of the hold-out, so that it stays at home unless it is asked for.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from nanoocr.errors import OutputError, UsageError
from nanoocr.files import MANIFEST, check_files, read_manifest
from nanoocr.finetune.report import CARD, NUMBERS, REPORT
from nanoocr.model.folder import CONFIG, HEADS, TOKENIZER, WEIGHTS

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
README = "README.md"  # what hubs call a card


@dataclass(frozen=True)
class Upload:
    """What goes where: (path here, name there), and the bytes of all."""

    repo: str
    files: tuple[tuple[Path, str], ...]
    size: int


def plan_upload(folder: str | Path, repo: str, *, with_report: bool = False) -> Upload:
    """The files of a model folder that would be sent.

    Raises:
        UsageError: `repo` is not OWNER/NAME.
        CheckpointError: the folder is missing, damaged, or no model folder.
    """
    if not NAME.fullmatch(repo):
        raise UsageError(f"{repo!r} is no name of a model on a hub: write OWNER/NAME")
    folder = Path(folder)
    listed = read_manifest(folder)["files"]
    wanted = [WEIGHTS, CONFIG, TOKENIZER]
    if missing := [name for name in wanted if name not in listed]:
        raise UsageError(f"{folder}: {missing[0]} is missing, so this is no model folder")
    check_files(folder, "*")
    wanted += [name for name in (HEADS, NUMBERS, *((REPORT,) if with_report else ())) if name in listed]
    files = [(folder / name, name) for name in wanted]
    if (folder / CARD).is_file():
        files.append((folder / CARD, README))
    return Upload(repo, tuple(files), sum(path.stat().st_size for path, _ in files))


def push(upload: Upload, *, private: bool = True, message: str = "Upload a nanoocr model") -> str:
    """Send the files in one commit; returns the address of the model.

    Raises:
        UsageError: huggingface_hub is not installed.
        OutputError: the hub refuses, or cannot be reached.
    """
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise UsageError("nanoocr push needs the extra: pip install 'nano-deepseek-ocr[hub]'") from error
    # The library has changed what it speaks HTTP with, and a hub that cannot be reached is that one's error.
    http_error = cast(type[Exception], HfHubHTTPError.__bases__[0])
    api = HfApi()
    manifest = manifest_of(upload)
    sent = [CommitOperationAdd(there, str(here)) for here, there in upload.files]
    sent.append(CommitOperationAdd(MANIFEST, manifest))
    try:
        address = api.create_repo(upload.repo, private=private, exist_ok=True)
        api.create_commit(upload.repo, sent, commit_message=message)
    except (HfHubHTTPError, http_error, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OutputError(f"{upload.repo}: the hub did not take it ({reason})") from error
    return str(address)


def manifest_of(upload: Upload) -> bytes:
    """The manifest of what is sent, so that a download is a model folder again."""
    folder = upload.files[0][0].parent
    manifest = read_manifest(folder)
    names = {here.name for here, there in upload.files if here.name == there}
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if name in names}
    return json.dumps(manifest, indent=2).encode()
