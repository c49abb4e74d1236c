"""Stamps in saved files: in the metadata of PNG, SVG and Parquet, and in `<file>.jammi.json` beside
any other. `rows` is the digest of the file without its stamp; of Parquet that of its rows."""

import hashlib
import html
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.features.outputs.stamps import STAMP_KEY, Stamp, short, stamp_from
from jammi_lab.sources.read_errors import MAX_FILE_BYTES
from jammi_lab.storage.files import (
    AtomicFile,
    open_any_regular,
    open_for_reading,
    read_regular,
    write_outside,
)
from jammi_lab.storage.own_files import discard

SIDECAR_SUFFIX = ".jammi.json"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = len(_PNG) + 25
"""The signature and the first chunk, which has a fixed size."""
_SVG_TAG = re.compile(rb"<svg\b[^<>]*>")
_SVG_STAMP, _SVG_STAMP_END = b'<metadata id="jammi">', b"</metadata>"
BLOCK_BYTES = 1 << 20
_KEY = STAMP_KEY.encode()


def sidecar_of(path: Path) -> Path:
    """The file beside a saved file that holds its stamp."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def stamp_file(path: Path, stamp: Stamp, target: Path | None = None) -> None:
    """Store the stamp of a file that was just saved. `target`: the name that the file will get,
    when it is a temporary one. OSError."""
    embed = _embedding(path)
    if embed is not None and embed(path, stamp.shortened()):
        discard(sidecar_of(target or path))  # of an earlier file of that name
        return
    text = _to_json(stamp.shortened(), _digest(path.read_bytes()))
    write_outside(sidecar_of(target or path), text + b"\n")


def read_stamp(path: Path) -> tuple[Stamp | None, str]:
    """The stamp of a file, None if it has none, and the digest that it has now. OSError."""
    kind = _kind_of(path)
    if kind == "parquet":
        value, digest = _read_parquet(path)
        return _parse(value or _read_small(sidecar_of(path))), digest
    data = _read_small(path, follow_links=True) if kind else None
    own = data and (_png_stamp(data) if kind == "png" else _svg_stamp(data))
    if own:
        return _parse(own[0]), _digest(own[1])
    stamp = _parse(_read_small(sidecar_of(path)))
    if stamp is None:
        return None, ""
    with open(path, "rb", opener=open_any_regular) as file:
        return stamp, short(hashlib.file_digest(file, "sha256").hexdigest())


def _read_small(path: Path, *, follow_links: bool = False) -> bytes | None:
    """The content of a file that may hold a stamp of ours; None of any other, and of a link unless
    it is the file that was named. OSError."""
    found = read_regular(path, MAX_FILE_BYTES, follow_links=follow_links)
    return found and found[1]


def _parse(value: bytes | None) -> Stamp | None:
    if value is None or len(value) > BLOCK_BYTES:
        return None
    try:
        metadata = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return stamp_from(metadata.get(STAMP_KEY)) if isinstance(metadata, dict) else None


def _to_json(stamp: Stamp, digest: str) -> bytes:
    value: Any = {STAMP_KEY: stamp.with_values(rows=digest).to_dict()}
    return json.dumps(value, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return short(hashlib.sha256(data).hexdigest())


def _kind_of(path: Path) -> str:
    """The format of a file by its first bytes: png, svg, parquet or empty."""
    with open_for_reading(path, follow_links=True) as file:
        head = file.read(BLOCK_BYTES if path.suffix.lower() == ".svg" else len(_PNG))
    if head.startswith(_PNG):
        return "png"
    if head.startswith(b"PAR1"):
        return "parquet"
    return "svg" if _SVG_TAG.search(head) else ""


def _embedding(path: Path) -> Callable[[Path, Stamp], bool] | None:
    return {"png": _stamp_png, "svg": _stamp_svg, "parquet": _stamp_parquet}.get(_kind_of(path))


# -- PNG: a text chunk after the header


def _stamp_png(path: Path, stamp: Stamp) -> bool:
    data = path.read_bytes()
    body = b"tEXt" + _KEY + b"\0" + _to_json(stamp, _digest(data))
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    write_outside(path, data[:_PNG_HEADER_BYTES] + chunk + data[_PNG_HEADER_BYTES:])
    return True


def _png_stamp(data: bytes) -> tuple[bytes, bytes] | None:
    """The stamp and the file without it."""
    position = len(_PNG)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        body = data[position + 4 : end - 4]
        if body.startswith(b"tEXt" + _KEY + b"\0"):
            return body[4 + len(_KEY) + 1 :], data[:position] + data[end:]
        position = end
    return None


# -- SVG: an element after the opening tag


def _stamp_svg(path: Path, stamp: Stamp) -> bool:
    data = path.read_bytes()
    match = _SVG_TAG.search(data)
    if match is None:
        return False
    text = html.escape(_to_json(stamp, _digest(data)).decode(), quote=False).encode()
    element = _SVG_STAMP + text + _SVG_STAMP_END
    write_outside(path, data[: match.end()] + element + data[match.end() :])
    return True


def _svg_stamp(data: bytes) -> tuple[bytes, bytes] | None:
    before, opening, rest = data.partition(_SVG_STAMP)
    text, end, after = rest.partition(_SVG_STAMP_END)
    if not opening or not end:
        return None
    return html.unescape(text.decode("utf-8", "replace")).encode(), before + after


# -- Parquet: a key-value pair of the footer; the digest is that of the rows


def _stamp_parquet(path: Path, stamp: Stamp) -> bool:
    """Write the rows again, with the stamp. pyarrow adds a pair only to a file that it writes."""
    import pyarrow.parquet as pq

    from jammi_lab.storage.arrow_digests import RunningDigests
    from jammi_lab.storage.parquet import ParquetSink

    with pq.ParquetFile(path) as file:
        digests = RunningDigests(file.schema_arrow)
        sink = ParquetSink(AtomicFile(path).temp, file.schema_arrow)
        try:
            for batch in file.iter_batches():
                digests.update(batch)
                sink.write(batch)
            sink.close({_KEY: _to_json(stamp, short(digest_of(digests.digests())))})
            sink.path.replace(path)
        finally:
            sink.abort()
    return True


def _read_parquet(path: Path) -> tuple[bytes | None, str]:
    import pyarrow as pa

    from jammi_lab.storage.arrow_digests import RunningDigests
    from jammi_lab.storage.parquet import open_parquet

    text = None
    try:
        with open_for_reading(path, follow_links=True) as opened, open_parquet(opened) as file:
            text = (file.metadata.metadata or {}).get(_KEY)
            digests = RunningDigests(file.schema_arrow)
            for batch in file.iter_batches(use_threads=False):
                digests.update(batch)
    except (pa.ArrowException, OSError, SchemaMismatch):  # a file that was damaged
        return text, ""
    return text, short(digest_of(digests.digests()))
