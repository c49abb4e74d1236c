"""The moving picture of the README: a story in a real JupyterLab, cell by cell.
`JAMMI_SHOTS=folder` keeps it as `story.webp`."""

import base64
import shutil
import struct
from pathlib import Path

import pytest

from tests.browser.lab import RUN_ALL, SHOTS, written

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "pictures" / "story.webp"
MAX_BYTES = 1_000_000
WIDTH, HEIGHT = 960, 600
OPEN = """%load_ext jammi_lab
%jammi open lab
%jammi add weather weather.csv
%jammi add flights flights/*.parquet"""
RAINY = """%%jammi -m rainy
SELECT origin, time_hour, precip FROM weather WHERE precip > 0"""
LATE = """%%jammi -m late
SELECT origin, round(avg(dep_delay), 1) AS minutes, count(*) AS flights
FROM flights JOIN jammi.rainy USING (origin, time_hour) GROUP BY origin"""
CORRECT = """# Somebody corrects measurements: the file keeps its name and its size.
from pathlib import Path
text = Path("weather.csv").read_text()
_ = Path("weather.csv").write_text(text.replace(",0.02,", ",0.00,", 40))"""
READ = "%%jammi\nFROM jammi.late"
SCENES = [
    (OPEN, 2.5),
    (RAINY, 3.0),
    (LATE, 3.0),
    (CORRECT, 3.0),
    ("%jammi status", 3.5),
    (READ, 3.5),
    ("%jammi recompute", 3.0),
    (READ, 4.0),
]
RUN_NEXT = RUN_ALL.replace("notebook:run-all-cells", "notebook:run-cell-and-select-next")
SHOW_FIRST = """count => {
  const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')];
  cells.forEach((cell, at) => cell.style.display = at < count ? '' : 'none');
  cells[count - 1].scrollIntoView({block: 'end'});
}"""


def animation(frames: list[bytes], seconds: list[float], width: int, height: int) -> bytes:
    """An animated WebP, endless, of still WebP pictures of that size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    def u24(value: int) -> bytes:
        return struct.pack("<I", value)[:3]

    size = u24(width - 1) + u24(height - 1)
    parts = [chunk(b"VP8X", bytes([0b10, 0, 0, 0]) + size), chunk(b"ANIM", bytes(4) + bytes(2))]
    for frame, duration in zip(frames, seconds, strict=True):
        head = bytes(6) + size + u24(int(duration * 1000)) + b"\2"  # no blending
        parts.append(chunk(b"ANMF", head + _image_data(frame)))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _image_data(still: bytes) -> bytes:
    """The chunk of the pixels of a still picture."""
    position = 12
    while position < len(still):
        name, length = (
            still[position : position + 4],
            *struct.unpack_from("<I", still, position + 4),
        )
        if name in (b"VP8 ", b"VP8L"):
            return still[position : position + 8 + length + length % 2]
        position += 8 + length + length % 2
    raise AssertionError("the picture has no pixels")


def durations(picture: bytes) -> list[float]:
    """The seconds of each frame of an animated WebP."""
    shown, position = [], 12
    while position < len(picture):
        name, length = (
            picture[position : position + 4],
            *struct.unpack_from("<I", picture, position + 4),
        )
        if name == b"ANMF":
            shown.append(int.from_bytes(picture[position + 20 : position + 23], "little") / 1000)
        position += 8 + length + length % 2
    return shown


@pytest.mark.only_soak
def test_the_story_of_the_readme_runs_and_is_a_picture_of_less_than_a_megabyte(lab):
    shutil.copy(ROOT / "notebooks" / "data" / "weather.csv", lab.folder)
    shutil.copytree(ROOT / "notebooks" / "data" / "flights", lab.folder / "flights")
    written(lab.folder / "late.ipynb", [code for code, _ in SCENES])
    page = lab.open("late.ipynb", width=WIDTH, height=HEIGHT, run=False)
    session, frames, shown = page.context.new_cdp_session(page), [], []
    for count in range(1, len(SCENES) + 1):
        assert page.evaluate(RUN_NEXT, f"{lab.folder.name}/late.ipynb") == "ran"
        if count == 1:
            page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
            page.evaluate("window.jupyterapp.commands.execute('application:toggle-mode')")
        page.evaluate(SHOW_FIRST, count)
        cell = page.locator(".jp-Notebook .jp-CodeCell").nth(count - 1)
        cell.get_by_text(f"[{count}]:").first.wait_for()
        page.wait_for_timeout(500)
        page.evaluate(SHOW_FIRST, count)
        page.wait_for_timeout(300)
        picture = session.send("Page.captureScreenshot", {"format": "webp", "quality": 80})
        frames.append(base64.b64decode(picture["data"]))
        shown.append(" ".join(cell.inner_text().split()))
    assert "1 ● stale 1 ~ possibly stale 2 because weather changed" in shown[4]
    assert "late is ~ possibly stale: weather changed" in shown[5]
    assert "Run: 2 computed" in shown[6]
    assert "stale" not in shown[7]
    moving = animation(frames, [seconds for _, seconds in SCENES], WIDTH, HEIGHT)
    assert len(moving) < MAX_BYTES and durations(moving) == [seconds for _, seconds in SCENES]
    if SHOTS:
        (Path(SHOTS) / PICTURE.name).write_bytes(moving)


def test_the_picture_of_the_readme_tells_this_story():
    picture = PICTURE.read_bytes()
    assert len(picture) < MAX_BYTES
    assert durations(picture) == [seconds for _, seconds in SCENES]
