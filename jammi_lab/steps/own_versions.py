"""Tables made from frames that rest on earlier versions of the same table, as a notebook makes them
that reads a table, adds to it and stores it again."""

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor, FrameOrigin
from jammi_lab.core.identifiers import fold
from jammi_lab.inputs.result_versions import find_recorded_version
from jammi_lab.sources.frame_origins import merged_origin


def with_own_versions_resolved(
    catalog: Catalog, recipe: str, anchors: list[Anchor]
) -> list[Anchor]:
    """The anchors with each earlier version of the recipe, in what a frame was made from, replaced
    by what that version was made from. The version itself would make every successor stale."""
    return [
        msgspec.structs.replace(a, origin=_resolved(catalog, recipe, a.origin))
        if isinstance(a.origin, FrameOrigin)
        else a
        for a in anchors
    ]


def _resolved(catalog: Catalog, recipe: str, origin: FrameOrigin) -> FrameOrigin:
    parts = [
        _origin_of_version(catalog, recipe, source) or FrameOrigin([source])
        for source in origin.inputs
    ]
    return merged_origin([msgspec.structs.replace(origin, inputs=[]), *parts])


def _origin_of_version(catalog: Catalog, recipe: str, source: Anchor) -> FrameOrigin | None:
    """What an earlier version of the recipe was made from; None for any other table, and for a
    version that is gone."""
    if not source.input.kind_class.is_result or fold(source.input.name) != fold(recipe):
        return None
    if (record := find_recorded_version(catalog, recipe, source)) is None:
        return None
    anchors = record.anchors
    return merged_origin(
        [
            FrameOrigin([a for a in anchors if a.pinned and not a.input.kind_class.has_origin]),
            *(a.origin for a in anchors if isinstance(a.origin, FrameOrigin)),
        ],
        [
            f"version {source.version} of {recipe} was computed from {a.input.label}"
            for a in anchors
            if not a.pinned
            or (a.input.kind_class.has_origin and not isinstance(a.origin, FrameOrigin))
        ],
        derived=True,
    )
