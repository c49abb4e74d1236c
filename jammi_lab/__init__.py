"""jammi_lab: derived tables that record what they were built from and whether they are up to date,
and that are recomputed with the least work.

    import jammi_lab as jl

    ws = jl.open("lab")
    ws.sources.add("papers", "papers.csv")
    ws.materialize("venues", "SELECT venue, count(*) AS n FROM papers GROUP BY venue")
    ws.status()

Importing the package loads no heavy library; the engine is loaded by the first `open`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jammi_lab.core.version import __version__ as __version__

if TYPE_CHECKING:
    from jammi_lab.core.anchors import Anchor, Input
    from jammi_lab.core.errors import (
        AmbiguousMatch,
        CatalogTooNew,
        CheckFailed,
        CheckNotFound,
        DependencyCycle,
        DuplicateKey,
        DuplicateTable,
        ExtensionMissing,
        ForkedWorkspace,
        InvalidArgument,
        JammiError,
        LostOwnership,
        ManifestUnsupported,
        ModelNotFound,
        ModelReferenced,
        NameInvalid,
        NameTooLong,
        NoTenantBinding,
        NotRecomputable,
        ParameterMissing,
        PartialDeletionFailure,
        ResourceExhausted,
        RowNotFound,
        SchemaMismatch,
        SecretMissing,
        SessionClosed,
        SourceExists,
        SourceNotFound,
        SourceUnavailable,
        SqlError,
        StatementNotAllowed,
        StepFailed,
        TableDamaged,
        TableNotFound,
        TenantForbidden,
        TopicNotFound,
        UnknownTable,
        VersionConflict,
        WorkspaceNotFound,
        WorkspaceReadOnly,
    )
    from jammi_lab.core.manifest import Manifest
    from jammi_lab.core.model_records import Reference
    from jammi_lab.core.records import CallEstimate, Edge, Progress, RunStep, Step
    from jammi_lab.core.verdicts import (
        Cause,
        Damaged,
        DefinitionChanged,
        Fresh,
        InputAdvanced,
        InputVanished,
        Match,
        MatchWithUnpinnedInputs,
        Mismatch,
        MissingBytes,
        MissingManifest,
        PossiblyStale,
        Stale,
        Undecidable,
    )
    from jammi_lab.features.asof.asof_join import AsofJoin
    from jammi_lab.features.checks.checks import Check
    from jammi_lab.features.checks.results import CheckResults
    from jammi_lab.features.live.mutable_handles import MutableTable
    from jammi_lab.features.live.subscriptions import Event
    from jammi_lab.features.pictures.lineage import Lineage
    from jammi_lab.features.prose.value_search import ValueLocation
    from jammi_lab.features.rows.row_map import RowMap
    from jammi_lab.features.vectors.context_set import ContextSet
    from jammi_lab.features.vectors.embedding import Embedding
    from jammi_lab.features.vectors.models import Model
    from jammi_lab.features.vectors.neighbor_graph import NeighborGraph
    from jammi_lab.features.vectors.projection import Projection
    from jammi_lab.features.vectors.propagation import Propagation
    from jammi_lab.features.words.lexical import Lexical
    from jammi_lab.freshness.explain import Why
    from jammi_lab.freshness.lineage import Node
    from jammi_lab.freshness.reports import Plan, RunReport, Status, StatusRow
    from jammi_lab.steps.python import PythonStep
    from jammi_lab.steps.sql import Sql
    from jammi_lab.store.reports import FsckReport, RebuildReport, RecoveryReport
    from jammi_lab.workspace.diff import Diff
    from jammi_lab.workspace.opening import open, rebuild, trust  # noqa: A004  the field's name for it
    from jammi_lab.workspace.query_plan import Explanation
    from jammi_lab.workspace.recipes import Recipe
    from jammi_lab.workspace.result import Result
    from jammi_lab.workspace.result_table import ResultTable
    from jammi_lab.workspace.sources import Column, Source
    from jammi_lab.workspace.workspace import Workspace

__all__ = [
    "AmbiguousMatch",
    "Anchor",
    "AsofJoin",
    "CallEstimate",
    "CatalogTooNew",
    "Cause",
    "Check",
    "CheckFailed",
    "CheckNotFound",
    "CheckResults",
    "Column",
    "ContextSet",
    "Damaged",
    "DefinitionChanged",
    "DependencyCycle",
    "Diff",
    "DuplicateKey",
    "DuplicateTable",
    "Edge",
    "Embedding",
    "Event",
    "Explanation",
    "ExtensionMissing",
    "ForkedWorkspace",
    "Fresh",
    "FsckReport",
    "Input",
    "InputAdvanced",
    "InputVanished",
    "InvalidArgument",
    "JammiError",
    "Lexical",
    "Lineage",
    "LostOwnership",
    "Manifest",
    "ManifestUnsupported",
    "Match",
    "MatchWithUnpinnedInputs",
    "Mismatch",
    "MissingBytes",
    "MissingManifest",
    "Model",
    "ModelNotFound",
    "ModelReferenced",
    "MutableTable",
    "NameInvalid",
    "NameTooLong",
    "NeighborGraph",
    "NoTenantBinding",
    "Node",
    "NotRecomputable",
    "ParameterMissing",
    "PartialDeletionFailure",
    "Plan",
    "PossiblyStale",
    "Progress",
    "Projection",
    "Propagation",
    "PythonStep",
    "RebuildReport",
    "Recipe",
    "RecoveryReport",
    "Reference",
    "ResourceExhausted",
    "Result",
    "ResultTable",
    "RowMap",
    "RowNotFound",
    "RunReport",
    "RunStep",
    "SchemaMismatch",
    "SecretMissing",
    "SessionClosed",
    "Source",
    "SourceExists",
    "SourceNotFound",
    "SourceUnavailable",
    "Sql",
    "SqlError",
    "Stale",
    "StatementNotAllowed",
    "Status",
    "StatusRow",
    "Step",
    "StepFailed",
    "TableDamaged",
    "TableNotFound",
    "TenantForbidden",
    "TopicNotFound",
    "Undecidable",
    "UnknownTable",
    "ValueLocation",
    "VersionConflict",
    "Why",
    "Workspace",
    "WorkspaceNotFound",
    "WorkspaceReadOnly",
    "checks",
    "get_workspace",
    "open",
    "rebuild",
    "trust",
    "widgets",
]

_HOME_MODULES = (
    "core.errors",
    "core.verdicts",
    "core.anchors",
    "core.records",
    "store.reports",
    "workspace.recipe_values",
    "workspace.diff",
    "workspace.result",
    "workspace.result_table",
    "workspace.workspace",
    "workspace.opening",
)
"""Modules of the public names, light modules first."""

_EXPLICIT_HOMES = {
    "AsofJoin": "features.asof.asof_join",
    "Check": "features.checks.checks",
    "CheckResults": "features.checks.results",
    "Column": "workspace.sources",
    "ContextSet": "features.vectors.context_set",
    "Edge": "core.records",
    "Embedding": "features.vectors.embedding",
    "Event": "features.live.subscriptions",
    "Explanation": "workspace.query_plan",
    "Lexical": "features.words.lexical",
    "Lineage": "features.pictures.lineage",
    "Manifest": "core.manifest",
    "Model": "features.vectors.models",
    "MutableTable": "features.live.mutable_handles",
    "NeighborGraph": "features.vectors.neighbor_graph",
    "Node": "freshness.lineage",
    "Plan": "freshness.reports",
    "Projection": "features.vectors.projection",
    "Propagation": "features.vectors.propagation",
    "PythonStep": "steps.python",
    "Recipe": "workspace.recipes",
    "Reference": "core.model_records",
    "RowMap": "features.rows.row_map",
    "RunReport": "freshness.reports",
    "RunStep": "core.records",
    "Source": "workspace.sources",
    "Sql": "steps.sql",
    "Status": "freshness.reports",
    "StatusRow": "freshness.reports",
    "Step": "core.records",
    "ValueLocation": "features.prose.value_search",
    "Why": "freshness.explain",
    "Workspace": "workspace.workspace",
    "open": "workspace.opening",
    "rebuild": "workspace.opening",
    "trust": "workspace.opening",
}
"""Modules of public names that other modules use for something else, or that are asked for
first."""


def __getattr__(name: str) -> Any:
    if name == "widgets":
        return _notebook_surface("widgets")
    if name in ("checks", "errors"):
        return importlib.import_module(f"jammi_lab.{name}")
    if name in __all__:
        from jammi_lab.core.module_imports import import_modules

        for home in (_EXPLICIT_HOMES[name],) if name in _EXPLICIT_HOMES else _HOME_MODULES:
            with import_modules():
                module = importlib.import_module(f"jammi_lab.{home}")
            if name in vars(module):
                return vars(module)[name]
    if name.startswith("_"):  # asked for by machines
        raise AttributeError(f"module 'jammi_lab' has no attribute {name!r}")
    from jammi_lab.core.attribute_suggestions import missing_attribute_message

    raise AttributeError(missing_attribute_message("module 'jammi_lab'", name, __all__))


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _notebook_surface(name: str) -> Any:
    from jammi_lab.core.surfaces import load_surface

    return load_surface(name)


def load_ipython_extension(ip: Any) -> None:
    """`%load_ext jammi_lab`."""
    _notebook_surface("kernel").load_ipython_extension(ip)


def unload_ipython_extension(ip: Any) -> None:
    """`%unload_ext jammi_lab`."""
    _notebook_surface("kernel").unload_ipython_extension(ip)


def get_workspace() -> "Workspace":
    """The workspace of this notebook's cells; opened on first use. WorkspaceNotFound where
    that would be a new one beside others."""
    workspace: Workspace = _notebook_surface("kernel").get_workspace()
    return workspace
