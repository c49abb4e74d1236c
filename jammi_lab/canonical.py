"""One JSON for hashing: sorted keys, no white space, floats as their IEEE 754 bits, nothing that two writers could spell differently."""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

_SCALARS = frozenset({str, int, bool, type(None)})


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON that is equal exactly when the values are: 1, 1.0, true and "1" all differ. TypeError for what JSON does not hold."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")


def digest_of(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list:
        return [_plain(v) for v in value]
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"__f64__": struct.pack(">d", value).hex()}
        case bytes():
            return {"__bytes__": value.hex()}
        case Mapping():
            if bad := [k for k in value if not isinstance(k, str)]:
                raise TypeError(f"a key of a hashed mapping must be text, not {bad[0]!r}")
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
    raise TypeError(f"{type(value).__name__} has no canonical form")
