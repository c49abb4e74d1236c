"""Validation of manifests: a results folder may come from anywhere, and what is read from it enters
a catalog that all tables share."""

import contextlib

from jammi_lab.core.clock import parse_rfc3339
from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.identifiers import check_name, fold, is_text
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.recipes import parse_descriptor
from jammi_lab.store.result_files import invalid_column


def check_manifest(manifest: Manifest) -> None:
    """Check that a catalog can hold all values of a manifest. Raises ValueError, NameInvalid or
    TableDamaged for the first one that it cannot."""
    check_name(manifest.recipe, "recipe")
    parse_descriptor(manifest.descriptor)
    if manifest.kind != manifest.descriptor["producer"]:
        raise ValueError(f"its kind {manifest.kind[:50]!r} is not that of its recipe")
    _check_time(manifest.produced_at)
    _check_texts(manifest)
    _check_columns(manifest)


def _check_time(text: str) -> None:
    """Check that the text is as `rfc3339` writes it, because these texts are sorted and ages are
    computed from them."""
    with contextlib.suppress(TableDamaged):
        if (
            parse_rfc3339(text).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
            == text
        ):
            return
    raise ValueError(f"its creation time {text[:50]!r} is invalid")


def _check_texts(manifest: Manifest) -> None:
    """Reject names that no database, path or statement can hold."""
    texts = [
        manifest.table_name,
        manifest.definition_hash,
        manifest.source_id,
        manifest.model_id,
        manifest.derived_from,
    ]
    texts += [
        text for anchor in manifest.anchors for text in (anchor.input.name, anchor.input.table)
    ]
    if (
        invalid := next((text for text in texts if text is not None and not is_text(text)), None)
    ) is not None:
        raise ValueError(f"its name {invalid[:50]!r} is not valid text")


def _check_columns(manifest: Manifest) -> None:
    names = [column.name for column in manifest.columns]
    if (
        not names
        or not all(name and is_text(name) for name in names)
        or len({fold(name) for name in names}) < len(names)
    ):
        raise ValueError("it has no columns, or their names are empty or not unique")
    if (column := invalid_column(manifest)) is not None:
        raise ValueError(
            f"its column {column.name!r} has the type {column.type[:100]!r}, which is not an SQL "
            "type"
        )
    if (key := next((name for name in manifest.key if name not in names), None)) is not None:
        raise ValueError(f"its key {key[:50]!r} is not one of its columns")
