"""The fuzzer's inputs: small files made here, and then spoiled as files and people spoil them.

Every target takes (rng, folder) and does one thing with one spoiled input. It ends quietly or with an error
of nanoocr/errors.py; everything else is a finding.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from nanoocr.commandline import parse
from nanoocr.errors import NanoOCRError
from scripts.dev.fuzz_requests import send_request
from scripts.dev.fuzz_spoiling import ODD, spoil, spoil_json

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM")
Target = Callable[[random.Random, Path], None]


# ---------------------------------------------------------------------------------------------------
# Pictures and PDFs


@functools.cache
def pictures() -> tuple[bytes, ...]:
    """A small card in every format, mode and form that is read."""
    card = Image.new("RGB", (96, 48), "white")
    ImageDraw.Draw(card).text((8, 8), "Total 4.50", fill="black")
    made = []
    for name in FORMATS:
        for mode in ("RGB", "L", "1", "P"):
            if name in ("JPEG", "WEBP", "PPM") and mode in ("1", "P"):
                continue
            made.append(_saved(card.convert(mode), name))
    made.append(_saved(card.convert("I;16"), "PNG"))
    made.append(_saved(card, "TIFF", save_all=True, append_images=[card, card.convert("L")]))
    for compression in ("tiff_lzw", "packbits", "tiff_deflate", "jpeg"):
        made.append(_saved(card, "TIFF", compression=compression))
    made.append(_saved(card.convert("1"), "TIFF", compression="group4", dpi=(204, 98)))
    exif = Image.Exif()
    exif[274] = 6
    made += [_saved(card, name, exif=exif) for name in ("JPEG", "PNG", "WEBP", "TIFF")]
    return tuple(made)


def _saved(image: Image.Image, name: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **how)
    return buffer.getvalue()


@functools.cache
def pdfs() -> tuple[bytes, ...]:
    """A scan, a page of text, a form, and objects in streams, as PDF libraries write them."""
    import pikepdf

    scan = _saved(Image.open(io.BytesIO(pictures()[0])).convert("RGB"), "PDF")
    document = pikepdf.new()
    for _ in range(2):
        document.add_blank_page(page_size=(200, 100))
    page = document.pages[0].obj
    font = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica
    )
    page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=document.make_indirect(font)))
    page.Contents = document.make_stream(b"BT /F1 12 Tf 20 50 Td (Total 4.50) Tj ET")
    field = pikepdf.Dictionary(
        Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Widget, FT=pikepdf.Name.Tx, T="a", V="Filled",
        Rect=[20, 20, 120, 40], DA="/Helv 12 Tf 0 g",
    )  # fmt: skip
    held = document.make_indirect(field)
    page.Annots = pikepdf.Array([held])
    document.Root.AcroForm = pikepdf.Dictionary(Fields=pikepdf.Array([held]), NeedAppearances=True)
    made = [scan]
    for mode in (pikepdf.ObjectStreamMode.disable, pikepdf.ObjectStreamMode.generate):
        buffer = io.BytesIO()
        document.save(buffer, object_stream_mode=mode, compress_streams=mode.value > 0)
        made.append(buffer.getvalue())
    return tuple(made)


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


@functools.cache
def tiny_model(views: tuple[tuple[int, int], ...] = ((64, 64),), sequence_len: int = 16) -> dict[str, bytes]:
    """The files of the smallest model that this code accepts."""
    import torch

    from nanoocr.bpe import Tokenizer
    from nanoocr.config import ClipConfig, GPTConfig, ModelConfig, SamConfig
    from nanoocr.model.folder import model_files
    from nanoocr.model.vlm import VLM

    tokenizer = Tokenizer.bytes()
    sam = SamConfig(
        width=8, depth=1, heads=2, window=2, global_blocks=(0,), grid=(4, 4), neck=8, compressor=(8, 8)
    )
    gpt = GPTConfig(
        vocab_size=tokenizer.vocab_size, sequence_len=sequence_len, n_layer=1, n_head=2, n_kv_head=1, n_embd=8
    )
    config = ModelConfig("tiny", sam, ClipConfig(width=8, depth=1, heads=2, grid=(1, 1)), gpt, views)
    model = VLM(config, image_id=tokenizer.image_id)
    model.init_weights(0)
    return model_files(model, tokenizer, torch.float32, {"step": 1})


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


def manifest_of(files: dict[str, bytes]) -> Any:
    """The manifest that belongs to the files of a model folder."""
    return {
        "version": 1,
        "files": {key: {"sha256": hashlib.sha256(content).hexdigest()} for key, content in files.items()},
    }


def write_model(folder: Path, files: dict[str, bytes], manifest: Any = None) -> None:
    """Write a model folder, replacing an older one; without `manifest` it gets the right one."""
    for path in folder.glob("*"):
        path.unlink()
    for key, content in files.items():
        (folder / key).write_bytes(content)
    told = manifest_of(files) if manifest is None else manifest
    (folder / "manifest.json").write_text(json.dumps(told))


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
