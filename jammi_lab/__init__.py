"""jammi_lab: derived tables that know what they were made from, whether it is still true, and how to become true again.

    import jammi_lab as jl

    ws = jl.open("lab")
    ws.sources.add("papers", "papers.csv")
    ws.materialize("venues", "SELECT venue, count(*) AS n FROM papers GROUP BY venue")
    ws.status()

Importing this loads nothing heavy; the engine comes with the first `open`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jammi_lab.errors import (
        AmbiguousMatch,
        CatalogTooNew,
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
    from jammi_lab.handles import ResultTable
    from jammi_lab.live.events import Event
    from jammi_lab.models import Model
    from jammi_lab.registered import Column, Source
    from jammi_lab.result import Result
    from jammi_lab.sensing.lineage import Lineage, Node
    from jammi_lab.sensing.reports import Plan, RunReport, Status
    from jammi_lab.store.reports import CheckReport, RebuildReport
    from jammi_lab.values.anchors import Anchor, Input
    from jammi_lab.values.models import Reference
    from jammi_lab.values.records import Edge, Progress, RecoveryReport, RunStep, Step
    from jammi_lab.values.verdicts import (
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
    from jammi_lab.versions import Diff, rebuild
    from jammi_lab.workspace import Workspace, open  # noqa: A004  the field's name for it

__version__ = "0.1.0"

__all__ = [
    "AmbiguousMatch",
    "Anchor",
    "CatalogTooNew",
    "Cause",
    "CheckReport",
    "Column",
    "Damaged",
    "DefinitionChanged",
    "DependencyCycle",
    "Diff",
    "DuplicateKey",
    "DuplicateTable",
    "Edge",
    "Event",
    "ExtensionMissing",
    "ForkedWorkspace",
    "Fresh",
    "Input",
    "InputAdvanced",
    "InputVanished",
    "InvalidArgument",
    "JammiError",
    "Lineage",
    "LostOwnership",
    "ManifestUnsupported",
    "Match",
    "MatchWithUnpinnedInputs",
    "Mismatch",
    "MissingBytes",
    "MissingManifest",
    "Model",
    "ModelNotFound",
    "ModelReferenced",
    "NameInvalid",
    "NameTooLong",
    "NoTenantBinding",
    "Node",
    "NotRecomputable",
    "ParameterMissing",
    "PartialDeletionFailure",
    "Plan",
    "PossiblyStale",
    "Progress",
    "RebuildReport",
    "RecoveryReport",
    "Reference",
    "ResourceExhausted",
    "Result",
    "ResultTable",
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
    "SqlError",
    "Stale",
    "StatementNotAllowed",
    "Status",
    "Step",
    "StepFailed",
    "TableDamaged",
    "TableNotFound",
    "TenantForbidden",
    "TopicNotFound",
    "Undecidable",
    "UnknownTable",
    "VersionConflict",
    "Workspace",
    "WorkspaceNotFound",
    "WorkspaceReadOnly",
    "get_workspace",
    "open",
    "rebuild",
    "widgets",
]

_HOMES = ("errors", "values.verdicts", "values.anchors", "values.records", "store.reports", "versions", "result", "handles", "workspace")
"""Where the names live, light modules first."""

_APART = {
    "Column": "registered",
    "Edge": "values.records",
    "Event": "live.events",
    "Lineage": "sensing.lineage",
    "Model": "models",
    "Node": "sensing.lineage",
    "Plan": "sensing.reports",
    "Reference": "values.models",
    "RunReport": "sensing.reports",
    "RunStep": "values.records",
    "Source": "registered",
    "Status": "sensing.reports",
    "Step": "values.records",
}
"""Where the names of answers live: other modules use some of these words for something else."""


def __getattr__(name: str) -> Any:
    if name == "widgets":
        return importlib.import_module("jammi_widgets")
    if name in __all__:
        from jammi_lab.interrupts import HeldBack

        for home in (_APART[name],) if name in _APART else _HOMES:
            with HeldBack():  # a library that an interrupt leaves half loaded cannot be loaded again in this process
                module = importlib.import_module(f"jammi_lab.{home}")
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 'jammi_lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _surface() -> Any:
    """The notebook surface, reached by name: a written import would let the engine see Jupyter."""
    return importlib.import_module("jammi_kernel_ext")


def load_ipython_extension(ip: Any) -> None:
    """`%load_ext jammi_lab`."""
    _surface().load_ipython_extension(ip)


def unload_ipython_extension(ip: Any) -> None:
    """`%unload_ext jammi_lab`."""
    _surface().unload_ipython_extension(ip)


def get_workspace() -> "Workspace":
    """The workspace that the cells of this notebook use; opened on first use."""
    workspace: Workspace = _surface().get_workspace()
    return workspace
