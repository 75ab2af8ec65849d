"""The fuzzer's inputs: small files made here, and then spoiled as files and people spoil them.

Every target takes (rng, folder) and does one thing with one spoiled input. It ends quietly or with an error
of nanoocr/errors.py; everything else is a finding.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanoocr.commandline import parse
from nanoocr.errors import NanoOCRError
from scripts.dev.fuzz_requests import send_request
from scripts.dev.fuzz_seeds import manifest_of, pdfs, pictures, tiny_model, write_model
from scripts.dev.fuzz_spoiling import ODD, spoil, spoil_json

Target = Callable[[random.Random, Path], None]


# ---------------------------------------------------------------------------------------------------
# Pictures and PDFs


def read_picture(rng: random.Random, folder: Path) -> None:
    """Read every page of a spoiled picture, and plan a training row with it."""
    _open_all(
        spoil(rng.choice(pictures()), rng), folder / f"a{rng.choice(('.png', '.jpg', '.tif', ''))}", rng
    )


def read_pdf(rng: random.Random, folder: Path) -> None:
    """Read every page of a spoiled PDF."""
    _open_all(spoil(rng.choice(pdfs()), rng), folder / "a.pdf", rng)


def _open_all(content: bytes, path: Path, rng: random.Random) -> None:
    from nanoocr.pages import count_pages, open_source
    from nanoocr.pictures import open_image, upright_size

    path.write_bytes(content)
    source = path if rng.random() < 0.5 else content
    for number, picture in enumerate(open_source(source, "a")):
        if number == 50 or picture.error is not None:
            break
    for ask in (lambda: count_pages(source, "a"), lambda: upright_size(path), lambda: open_image(path)):
        try:
            ask()
        except NanoOCRError:
            continue  # each of them must be asked, whatever the others raise


# ---------------------------------------------------------------------------------------------------
# Rows, model folders, flags


def read_row(rng: random.Random, folder: Path) -> None:
    """Read one spoiled chat row, as a line of a .jsonl file."""
    from nanoocr.tasks.jsonl import Jsonl

    (folder / "a.png").write_bytes(pictures()[0])
    turns = [{"role": "user", "content": "<image>Read."}, {"role": "assistant", "content": "Total 4.50"}]
    parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Read."}]
    said = [{"from": "human", "value": "<image>\nRead."}, {"from": "gpt", "value": "Total 4.50"}]
    seeds: tuple[dict[str, Any], ...] = (
        {"messages": turns, "images": ["a.png"]},
        {"messages": [{"role": "user", "content": parts}, turns[1]]},
        {"conversations": said, "image": "a.png", "id": "x"},
        {"messages": [{"role": "system", "content": "Short."}, *turns], "images": [{"path": "a.png"}]},
    )
    row = spoil_json(rng.choice(seeds), rng)
    line = json.dumps(row).encode() + b"\n"
    path = folder / "rows.jsonl"
    path.write_bytes(line if rng.random() < 0.7 else spoil(line, rng))
    Jsonl(path)[0].decoded()


def load_folder(rng: random.Random, folder: Path) -> None:
    """Load a model folder with one spoiled file; half of the manifests vouch for the spoiled content."""
    from nanoocr.model.folder import load_model

    files = dict(tiny_model())
    name = rng.choice(sorted(files))
    if name.endswith(".json") and rng.random() < 0.5:
        files[name] = json.dumps(spoil_json(json.loads(files[name]), rng)).encode()
    else:
        files[name] = spoil(files[name], rng)
    manifest = manifest_of(files if rng.random() < 0.5 else tiny_model())
    if rng.random() < 0.2:
        manifest = spoil_json(manifest, rng)
    write_model(folder, files, manifest)
    load_model(folder)


def read_flags(rng: random.Random, folder: Path) -> None:
    """Parse flags with odd values, for the command line and for a training script."""
    from nanoocr.cli.main import _main
    from nanoocr.data.source import parse_curriculum, parse_mix
    from nanoocr.data.synth import ALL_KINDS
    from nanoocr.model.resize import parse_views
    from nanoocr.train.setup import resolve_recipe
    from scripts.vis_mid_train import VisMidConfig

    if rng.random() < 0.5:
        names = (
            "pages",
            "threads",
            "device",
            "max_tokens",
            "min_confidence",
            "mark_below",
            "mode",
            "model",
            "format",
            "dtype",
        )
        marks = ("=", "", " ")
        flags = [f"--{rng.choice(names)}{rng.choice(marks)}{_value(rng)}" for _ in range(rng.randint(1, 3))]
        _main([rng.choice(("read", "info", "rea", "convert")), str(folder / "none.png"), *flags])
        return
    known = list(VisMidConfig.__dataclass_fields__)
    config = parse(VisMidConfig, [f"--{rng.choice(known)}={_value(rng)}" for _ in range(rng.randint(1, 3))])
    resolve_recipe(config, 2)
    parse_curriculum(config.curriculum)
    parse_mix(config.mix, tuple(ALL_KINDS))
    parse_views(config.views)


def _value(rng: random.Random) -> str:
    plain = ("1", "2", "0.5", "True", "cpu", "nano", "1-3,7,end", "card:0.5", "0:1,0.5:2", "192x384", "json")
    value = rng.choice((*ODD, *plain))
    return value.replace("\x00", "") if rng.random() < 0.5 else value + rng.choice(plain).replace("\x00", "")


TARGETS: dict[str, Target] = {
    "pictures": read_picture,
    "pdfs": read_pdf,
    "rows": read_row,
    "folders": load_folder,
    "flags": read_flags,
    "requests": send_request,
}
