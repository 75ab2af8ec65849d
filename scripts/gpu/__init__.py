"""Measurements on a GPU, part by part: `bash runs/gpu.sh PART` (docs/guide/gpu.md)."""
