"""A feature imports no other; only `words` lies on `vectors`, and `search` on both."""

import ast
from pathlib import Path

FEATURES = Path(__file__).resolve().parents[2] / "jammi_lab" / "features"
ALLOWED = {("words", "vectors"), ("search", "vectors"), ("search", "words")}


def imported_features(module: Path) -> set[str]:
    """The features whose modules this one imports, anywhere in its text."""
    imports = [
        n for n in ast.walk(ast.parse(module.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)
    ]
    names = [f"{n.module}.{alias.name}".split(".") for n in imports for alias in n.names]
    return {name[2] for name in names if name[:2] == ["jammi_lab", "features"]}


def test_a_feature_imports_no_other():
    found = {
        (str(module.relative_to(FEATURES)), other)
        for module in FEATURES.rglob("*.py")
        for other in imported_features(module)
        if other != (own := module.relative_to(FEATURES).parts[0]) and (own, other) not in ALLOWED
    }
    assert not found
