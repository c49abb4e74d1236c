"""Stores the figures of docs/performance.md as tables of the workspace docs/measured, whose CSV files
hold what was measured: `python -m bench.figures`, after figures of `python -m bench.run` were
entered there. `jammi-lab check-text docs/performance.md --update` then writes them into the page.
After a change of the format of workspaces, remove catalog.sqlite3 and results first.
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import jammi_lab as jl

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "measured"


def main() -> None:
    """Bring the tables up to date, and leave nothing in the files that is about this machine."""
    with jl.open(FOLDER) as ws:
        for file in sorted(FOLDER.glob("*.csv")):
            source = f"{file.stem}_csv"
            if source not in ws.sources:
                ws.sources.add(source, str(file))
            key = file.read_text().split(",", 1)[0]
            ws.materialize(file.stem, f"SELECT * FROM {source}", key=key)
    with contextlib.closing(sqlite3.connect(FOLDER / "catalog.sqlite3")) as catalog:
        catalog.execute("DELETE FROM observations")
        catalog.execute("UPDATE writers SET host = '', boot_id = ''")
        catalog.execute("DELETE FROM meta WHERE key = 'folder'")
        catalog.commit()
        catalog.execute("VACUUM")
    shutil.rmtree(FOLDER / "writers", ignore_errors=True)
    (FOLDER / "space.reserve").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
