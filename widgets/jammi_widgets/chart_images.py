"""PNG images of charts in few bytes. The renderer compresses for speed: to about five times the
size, and with four bytes for each pixel where a palette of at most 256 colours needs one."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

Chunk = tuple[bytes, bytes]
_SIGNATURE_BYTES = 8
_RGBA_8_BITS = bytes([8, 6, 0, 0, 0])
"""The end of the header of the only form that is decoded: four channels of 8 bits, not
interlaced."""
_NO_FILTER, _LEFT_FILTER, _ABOVE_FILTER = 0, 1, 2
"""The filters of rows that are decoded: values as they are, or as differences from the pixel to the
left or above."""
_POSTERISED_BITS = 5
"""Bits of each channel by which many colours are made fewer before a palette is chosen."""
_MAX_CLUSTER_ROUNDS = 8
_MAX_ALPHA = 255
MAX_COLOURS = 256


def png_size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, with which a PNG begins."""
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def smaller_forms(
    png: bytes, colour_limits: Sequence[int], draw_on_white: Callable[[], bytes]
) -> Iterator[bytes]:
    """The same image in fewer bytes, then with at most so many colours, fewer and fewer.

    `draw_on_white` draws it once more, on white: the renderer writes no channel of a translucent
    pixel above its opacity, so that a translucent orange is khaki.
    """
    chunks = _chunks(png)
    body = _image_body(chunks)
    pixels = _decode(chunks, body)
    if pixels is None:
        yield _encode(png, chunks, {b"IDAT": zlib.compress(body, 9)})
        return
    if ((pixels[..., 3] > 0) & (pixels[..., 3] < _MAX_ALPHA)).any():
        white_chunks = _chunks(draw_on_white())
        white = _decode(white_chunks, _image_body(white_chunks))
        pixels = _with_own_colours(pixels, white)
    palette, places = _colours(pixels)
    if len(palette) <= MAX_COLOURS:
        yield _with_palette(png, chunks, palette, places)
    else:
        yield _encode(png, chunks, {b"IDAT": zlib.compress(_filtered(pixels), 9)})
    for limit in colour_limits:
        if len(palette) > limit:
            yield _with_palette(png, chunks, *_fewer_colours(pixels, limit))


def _image_body(chunks: Sequence[Chunk]) -> bytes:
    return zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))


def _with_own_colours(pixels: "Pixels", on_white: "Pixels | None") -> "Pixels":
    """The pixels in the colours that give, on white, the second image."""
    import numpy as np

    if on_white is None or on_white.shape != pixels.shape:
        return pixels
    opacity = pixels[..., 3:].astype(np.float32) / _MAX_ALPHA
    ground = _MAX_ALPHA * (1 - opacity)
    own = (on_white[..., :3] - ground) / np.maximum(opacity, 1 / _MAX_ALPHA)
    restored = pixels.copy()
    restored[..., :3] = np.where(opacity > 0, own.round().clip(0, _MAX_ALPHA), 0)
    return restored


def _filtered(pixels: "Pixels") -> bytes:
    """The rows of pixels as differences from the pixel to the left."""
    import numpy as np

    differences = np.diff(pixels, axis=1, prepend=np.uint8(0))
    rows = differences.reshape(len(pixels), -1)
    filters = np.full((len(rows), 1), _LEFT_FILTER, np.uint8)
    return np.concatenate([filters, rows], axis=1).tobytes()


def _chunks(png: bytes) -> list[Chunk]:
    chunks, offset = [], _SIGNATURE_BYTES
    while offset < len(png):
        end = offset + 12 + int.from_bytes(png[offset : offset + 4])
        chunks.append((png[offset + 4 : offset + 8], png[offset + 8 : end - 4]))
        offset = end
    return chunks


def _encode(png: bytes, chunks: Sequence[Chunk], parts: dict[bytes, bytes]) -> bytes:
    """The image with these parts instead of its own, before all others but the header."""
    header, *others = [chunk for chunk in chunks if chunk[0] not in (b"IDAT", b"IEND")]
    image = parts.pop(b"IDAT")
    head = [(b"IHDR", parts.pop(b"IHDR", header[1]))]
    ordered = [*head, *others, *parts.items(), (b"IDAT", image), (b"IEND", b"")]
    return png[:_SIGNATURE_BYTES] + b"".join(
        len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)
        for kind, body in ordered
    )


def _decode(chunks: Sequence[Chunk], body: bytes) -> "Pixels | None":
    """The pixels as rows of four channels; None for a form that the renderer does not write."""
    import numpy as np

    header = dict(chunks)[b"IHDR"]
    if header[8:] != _RGBA_8_BITS:
        return None
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    rows = np.frombuffer(body, np.uint8).reshape(height, 1 + 4 * width)
    filters, pixels = rows[:, 0], rows[:, 1:].reshape(height, width, 4).copy()
    if not set(filters.tolist()) <= {_NO_FILTER, _LEFT_FILTER, _ABOVE_FILTER}:
        return None
    of_left = filters == _LEFT_FILTER
    pixels[of_left] = np.cumsum(pixels[of_left], axis=1, dtype=np.uint8)
    for y in np.flatnonzero(filters == _ABOVE_FILTER):
        pixels[y] += pixels[y - 1] if y else 0
    pixels[pixels[..., 3] == 0] = 0  # what is transparent has no colour
    return pixels


def _colours(pixels: "Pixels") -> "tuple[Pixels, npt.NDArray[np.intp]]":
    """The distinct colours, and the number of its colour for each pixel."""
    import numpy as np

    flat = np.ascontiguousarray(pixels).view(np.uint32).ravel()
    colours, places = np.unique(flat, return_inverse=True)
    return colours.view(np.uint8).reshape(-1, 4), places.reshape(pixels.shape[:2])


def _fewer_colours(pixels: "Pixels", limit: int) -> "tuple[Pixels, npt.NDArray[np.intp]]":
    """At most so many colours that are near to those of the pixels as they look on a page, and the
    number of its colour for each pixel: means of clusters, which begin with the most frequent
    colours."""
    import numpy as np

    lost = 8 - _POSTERISED_BITS
    colours, places = _colours(pixels >> lost << lost | pixels >> _POSTERISED_BITS)
    counts = np.bincount(places.ravel(), minlength=len(colours)).astype(np.float32)
    values = colours.astype(np.float32)
    values[:, :3] *= values[:, 3:] / 255
    means = values[np.argsort(counts, kind="stable")[::-1][:limit]]
    for _ in range(_MAX_CLUSTER_ROUNDS):
        nearest = ((values[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        weights = np.bincount(nearest, counts, minlength=len(means))
        sums = [
            np.bincount(nearest, counts * channel, minlength=len(means)) for channel in values.T
        ]
        means = np.where(
            weights[:, None] > 0, np.stack(sums, axis=1) / np.maximum(weights, 1)[:, None], means
        )
    means[:, :3] *= 255 / np.maximum(means[:, 3:], 1)
    return means.round().clip(0, 255).astype(np.uint8), nearest[places]


def _with_palette(png: bytes, chunks: Sequence[Chunk], palette: "Pixels", places: Any) -> bytes:
    import numpy as np

    height, width = places.shape
    bits = next(n for n in (1, 2, 4, 8) if len(palette) <= 1 << n)
    per_byte = 8 // bits
    padded = np.zeros((height, -(-width // per_byte) * per_byte), np.uint8)
    padded[:, :width] = places
    packed = np.zeros((height, padded.shape[1] // per_byte), np.uint8)
    for at in range(per_byte):
        packed |= padded[:, at::per_byte] << (8 - bits * (at + 1))
    rows = np.concatenate([np.zeros((height, 1), np.uint8), packed], axis=1)
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([bits, 3, 0, 0, 0])
    parts = {
        b"IHDR": header,
        b"PLTE": palette[:, :3].tobytes(),
        b"tRNS": palette[:, 3].tobytes(),
        b"IDAT": zlib.compress(rows.tobytes(), 9),
    }
    return _encode(png, chunks, parts)
