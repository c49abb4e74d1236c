"""Canonical JSON for hashing: sorted keys, no white space, floats as their IEEE 754 bits. Each
value has exactly one spelling."""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

_SCALARS = frozenset({str, int, bool, type(None)})
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON that is equal exactly when the values are equal: 1, 1.0, true and "1" all differ.
    Raises TypeError for a value without a JSON form."""
    # Lone surrogates are encoded as they are, so that every text has a digest.
    return _ENCODER.encode(_to_json_types(value)).encode("utf-8", "surrogatepass")


def digest_of(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _to_json_types(value: Any) -> Any:
    # The common types first, by identity: most of a digest of a folder is this walk.
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list or kind is tuple:
        return [v if type(v) in _SCALARS else _to_json_types(v) for v in value]
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            # The bits, because the decimal form of a float depends on the JSON writer.
            return {"__f64__": struct.pack(">d", value).hex()}
        case bytes():
            return {"__bytes__": value.hex()}
        case Mapping():
            if invalid_keys := [k for k in value if not isinstance(k, str)]:
                raise TypeError(
                    f"keys of a hashed mapping must be strings, got {invalid_keys[0]!r}"
                )
            return {k: v if type(v) in _SCALARS else _to_json_types(v) for k, v in value.items()}
        case list() | tuple():
            return [_to_json_types(v) for v in value]
    raise TypeError(f"{type(value).__name__} has no canonical form")
