"""Turns what Arrow stores into what the writer of a Parquet file meant: JSON, labels, short numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from nanoocr.files import parse_json

HUB = b"huggingface"  # under this key `datasets` keeps the features of a table as JSON


def record_maker(schema: pa.Schema) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Make the function that mends a record {column: value} of a table with this schema.

    `datasets` and duckdb write texts as JSON where a list may stand; Arrow marks such columns as
    `arrow.json`, but pyarrow returns their documents as texts, with quotes. A label of `datasets` is the
    number of its name, and the names stand beside the schema. A number of 32 bits is another one in 64.
    """
    kinds = {name: schema.field(name).type for name in schema.names if schema.names.count(name) == 1}
    features = _features(schema)

    def mended(record: dict[str, Any]) -> dict[str, Any]:
        """The record as its writer meant it."""
        plain = {name: plain_value(value, kinds[name]) for name, value in record.items()}
        return {name: with_names(value, features.get(name)) for name, value in plain.items()}

    return mended


def plain_value(value: Any, kind: pa.DataType) -> Any:
    """Decode the JSON documents in a value, and shorten its numbers of 16 and 32 bits."""
    if getattr(kind, "extension_name", "") == "arrow.json":
        return parse_json(value) if isinstance(value, (str, bytes)) else value
    if isinstance(value, float) and kind.bit_width < 64:
        # 0.1 of 32 bits is 0.10000000149011612 of 64, and a text must not say so.
        return float(str(np.float32(value) if kind.bit_width == 32 else np.float16(value)))
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {field.name: plain_value(value[field.name], field.type) for field in kind}
    if isinstance(value, list) and hasattr(kind, "value_type"):
        return [plain_value(one, kind.value_type) for one in value]
    return value


def with_names(value: Any, feature: Any) -> Any:
    """Put names in place of the numbers of class labels; -1 and other numbers without a name become None."""
    if isinstance(feature, list) and feature:
        return [with_names(one, feature[0]) for one in value] if isinstance(value, list) else value
    if not isinstance(feature, dict):
        return value
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list) and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    if isinstance(feature.get("_type"), str):  # a list of any kind, whose items are of `feature`
        return with_names(value, [feature.get("feature")]) if isinstance(value, list) else value
    if isinstance(value, dict):
        return {name: with_names(one, feature.get(name)) for name, one in value.items()}
    return value


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The features of the columns, where any of them is a class label."""
    noted = (schema.metadata or {}).get(HUB, b"")
    if b"ClassLabel" not in noted:
        return {}
    try:
        features = parse_json(noted)["info"]["features"]
    except (ValueError, LookupError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}
