"""The moving picture of the README: a story in a real JupyterLab, cell by cell.
`JAMMI_SHOTS=folder` keeps it as `story.webp`."""

import base64
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

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


def animation(frames: list[bytes], seconds: list[float]) -> bytes:
    """An animated WebP, endless, of still pictures."""
    first, *others = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    moving, durations = io.BytesIO(), [int(1000 * duration) for duration in seconds]
    first.save(moving, "WEBP", save_all=True, append_images=others, duration=durations, quality=80)
    return moving.getvalue()


def durations_of(picture: bytes) -> list[float]:
    """The seconds of each frame of an animation."""
    shown = []
    with Image.open(io.BytesIO(picture)) as opened:
        for number in range(opened.n_frames):
            opened.seek(number)
            opened.load()
            shown.append(opened.info["duration"] / 1000)
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
        picture = session.send("Page.captureScreenshot", {"format": "png"})
        frames.append(base64.b64decode(picture["data"]))
        shown.append(" ".join(cell.inner_text().split()))
    assert "1 ● stale 1 ~ possibly stale 2 because weather changed" in shown[4]
    assert "late is ~ possibly stale: weather changed" in shown[5]
    assert "Run: 2 computed" in shown[6]
    assert "stale" not in shown[7]
    moving = animation(frames, [seconds for _, seconds in SCENES])
    assert len(moving) < MAX_BYTES and durations_of(moving) == [seconds for _, seconds in SCENES]
    if SHOTS:
        (Path(SHOTS) / PICTURE.name).write_bytes(moving)


def test_the_picture_of_the_readme_tells_this_story():
    picture = PICTURE.read_bytes()
    assert len(picture) < MAX_BYTES
    assert durations_of(picture) == [seconds for _, seconds in SCENES]
