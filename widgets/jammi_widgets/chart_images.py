"""PNG images of charts in few bytes: the renderer compresses for speed, and writes four bytes for
each pixel where a palette needs one."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from jammi_lab.core.module_imports import import_modules

if TYPE_CHECKING:
    from PIL.Image import Image

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
    with import_modules():
        from PIL.Image import Dither, Quantize

    image = _decode(png)
    if any(count and 0 < opacity < 255 for opacity, count in enumerate(_opacities(image))):
        image = _with_own_colours(image, _decode(draw_on_white()))
    yield _encode(image)
    for limit in colour_limits:
        yield _encode(image.quantize(limit, Quantize.FASTOCTREE, dither=Dither.NONE))


def _decode(png: bytes) -> "Image":
    with import_modules():
        from PIL import Image

    return Image.open(io.BytesIO(png)).convert("RGBA")


def _encode(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _opacities(image: "Image") -> list[int]:
    """The number of pixels of each opacity, from 0 to 255."""
    return image.getchannel("A").histogram()


def _with_own_colours(image: "Image", on_white: "Image") -> "Image":
    """The image in the colours that give, on white, the second one."""
    import numpy as np

    with import_modules():
        from PIL import Image

    pixels = np.array(image)
    opacity = pixels[..., 3:].astype(np.float32) / 255
    ground = 255 * (1 - opacity)
    own = (np.asarray(on_white)[..., :3] - ground) / np.maximum(opacity, 1 / 255)
    pixels[..., :3] = np.where(opacity > 0, own.round().clip(0, 255), 0)
    return Image.fromarray(pixels, "RGBA")
