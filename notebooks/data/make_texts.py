"""Makes `docstrings.csv` beside this script again: what Python's standard library says of its own
functions and classes.

    python3.11 notebooks/data/make_texts.py

Run by another Python it gives other texts; the file that ships was made once, by CPython 3.11.
"""

import argparse
import ast
import csv
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

MODULES = (
    "argparse asyncio.events asyncio.queues asyncio.tasks base64 bisect calendar "
    "collections collections.abc concurrent.futures._base"
    " configparser contextlib copy csv datetime decimal difflib enum fileinput fnmatch "
    "fractions functools glob graphlib gzip hashlib heapq html"
    " html.parser http.client ipaddress json json.decoder json.encoder locale logging "
    "mimetypes multiprocessing.pool operator os pathlib pickle"
    " platform posixpath pprint pstats queue random reprlib sched secrets selectors shelve "
    "shlex shutil socket statistics string subprocess"
    " tarfile tempfile textwrap threading timeit traceback types unittest.case urllib.parse "
    "urllib.request urllib.robotparser uuid warnings"
    " weakref webbrowser xml.etree.ElementTree zipfile zoneinfo._zoneinfo"
).split()
LIBRARY = Path(sysconfig.get_path("stdlib"))
LEAST, MOST = 30, 400
"""Characters of a text: shorter ones say nothing, longer ones are cut at a word."""


def documented(body: list[ast.stmt], path: str) -> Iterator[tuple[str, str, str]]:
    """Name, kind and first paragraph of what stands in a module or class, in the order of the
    file."""
    for node in body:
        if not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) or node.name.startswith("_"):
            continue
        name, kind = (
            f"{path}.{node.name}",
            "class" if isinstance(node, ast.ClassDef) else "function",
        )
        paragraph = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        if len(paragraph) >= LEAST:
            yield (
                name,
                kind,
                paragraph if len(paragraph) <= MOST else paragraph[:MOST].rsplit(" ", 1)[0] + " …",
            )
        if isinstance(node, ast.ClassDef):
            yield from documented(node.body, name)


def main() -> int:
    """Reads the sources of the running Python and writes the file."""
    parser = argparse.ArgumentParser(description="Collect the texts.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("docstrings.csv"))
    given = parser.parse_args()
    rows: dict[str, tuple[str, str, str, str]] = {}
    for module in MODULES:
        place = LIBRARY.joinpath(*module.split("."))
        source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if not source.is_file():
            sys.exit(f"this Python has no module {module}")
        tree = ast.parse(source.read_text(encoding="utf-8"))
        for name, kind, text in documented(tree.body, module):
            rows.setdefault(name, (name, module, kind, text))
    with given.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "module", "kind", "text"])
        writer.writerows(rows[name] for name in sorted(rows))
    print(
        f"{given.out.name}: {len(rows):,} texts, {given.out.stat().st_size:,} bytes, by "
        f"Python {sys.version.split()[0]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
