"""The fuzzer's small files before they are spoiled: pictures, PDFs, and the smallest model."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM")


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
