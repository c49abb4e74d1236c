"""Rebuild: create a new catalog from the manifests, when the old one is lost or damaged."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.commit_count import SUFFIX
from jammi_lab.catalog.connection import driver_errors
from jammi_lab.catalog.postgres import Postgres
from jammi_lab.catalog.sqlite import check_whole
from jammi_lab.catalog.writer_locks import remove_dead_locks
from jammi_lab.core.anchors import Input
from jammi_lab.core.clock import Clock, parse_rfc3339
from jammi_lab.core.errors import (
    CatalogTooNew,
    DependencyCycle,
    InvalidArgument,
    JammiError,
    NameInvalid,
    TableDamaged,
    WorkspaceNotFound,
)
from jammi_lab.core.identifiers import check_name, fold, is_text
from jammi_lab.core.manifest import Manifest, is_sealed
from jammi_lab.core.recipes import parse_descriptor
from jammi_lab.core.records import OnProgress, RecipeRecord, TableRecord, report_each
from jammi_lab.core.tenancy import TenantScope, tenant_id
from jammi_lab.storage import own_files
from jammi_lab.storage.files import (
    StoragePath,
    exists,
    fault_point,
    regular_stat,
    remove_leftovers,
    sync_folder,
)
from jammi_lab.store import manifests
from jammi_lab.store.completed_records import record_of_manifest
from jammi_lab.store.reports import RebuildReport
from jammi_lab.store.result_files import SHARED_FOLDER, invalid_column
from jammi_lab.store.workspace_identity import CATALOG_FILE, rebind

# --------------------------------------------------------------------------------------------------
# Validation of manifests: a results folder may come from anywhere, and what is read from it enters
# a catalog that all tables share.


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


# --------------------------------------------------------------------------------------------------
# The rebuild.

WRITER_ID = "rebuild"
NOT_REBUILT = (
    "sources: add them again under the same names",
    "definitions changed but not run since, and recipes that never had a ready version",
    "recipe names changed after a table was built",
    "versions that referred to the bytes of another version; pins and their notes",
    "checks with their results, and rejected versions",
    "failed runs, and cached observations of inputs",
    "mutable tables, topics and models' records",
)
"""What manifests do not contain, as listed in a `RebuildReport`."""


@dataclass(frozen=True)
class _ManifestFile:
    """A manifest found in the results folder, with its catalog row."""

    manifest: Manifest
    body: bytes
    record: TableRecord


_Versions = list[_ManifestFile]
"""The tables of one recipe, oldest first."""


def rebuild(
    folder: StoragePath,
    clock: Clock,
    url: str = "",
    on_progress: OnProgress | None = None,
) -> RebuildReport:
    """Create a new catalog from the manifests under `results/`, replace the old one, which is kept
    under another name, and report what it lacks. `url` is that of a new catalog on a server.

    Versions keep their numbers when these are unique; otherwise they are numbered by creation time.
    No table's files are changed. Raises WorkspaceNotFound when there is neither a catalog nor a
    manifest, InvalidArgument while a kernel has the workspace open or when there is a catalog on
    the server, CatalogTooNew when a later release wrote the old catalog.
    """
    if not manifests.has_manifests(folder) and not (
        isinstance(folder, Path) and (folder / CATALOG_FILE).exists()
    ):
        raise WorkspaceNotFound(
            f"There is no workspace in {str(folder)!r}, and no manifest to rebuild a catalog from."
        )
    if isinstance(folder, Path) and not url:
        _check_not_newer(folder / CATALOG_FILE, clock)
    recipes, unreadable = _read_manifests(folder, on_progress)
    old_name = None
    if isinstance(folder, Path) and not url:
        old_name = _rebuild_in_folder(folder, recipes, unreadable, clock)
    else:
        _rebuild_on_server(folder, url, recipes, unreadable, clock)
    files = [file for versions in recipes for file in versions]
    return RebuildReport(
        recipes=sorted(versions[-1].record.recipe for versions in recipes if versions),
        tables=[f.record.table_name for f in files],
        missing=[
            f.record.table_name for f in files if regular_stat(folder / f.record.path) is None
        ],
        unreadable=unreadable,
        sources=sorted(
            {
                a.input.name
                for f in files
                for a in f.manifest.anchors
                if a.input.kind_class.is_stored
            }
        ),
        kept=old_name,
        lost=list(NOT_REBUILT),
    )


def _check_not_newer(old: Path, clock: Clock) -> None:
    """Raise CatalogTooNew for an intact catalog of a later release. Any other reason why it cannot
    be read is ignored."""
    try:
        Catalog(old, scope=TenantScope(), clock=clock, read_only=True, create=False).close()
    except CatalogTooNew:
        raise
    except (JammiError, OSError, ValueError):
        return
    except driver_errors():
        return


def catalog_only_contents(catalog: Catalog) -> dict[str, list[str]]:
    """What a catalog contains, over all tenants, that no manifest does: names by kind of object.
    Raises TableDamaged when it is not intact."""
    catalog.check_integrity()
    with catalog.all_tenants():
        # a row that no release stores raises TableDamaged when it is read
        catalog.recipes.list()
        for _ in catalog.result_tables.list(status=None):
            pass
        return {
            "mutable tables": [table.name for table in catalog.mutable_tables.list()],
            "topics": [topic.name for topic in catalog.topics.list()],
            "sources": [source.name for source in catalog.sources.list()],
            "models": list(dict.fromkeys(model.name for model in catalog.models.list())),
        }


def _rebuild_on_server(
    folder: StoragePath,
    url: str,
    recipes: Sequence[_Versions],
    unreadable: list[str],
    clock: Clock,
) -> None:
    """Rebuild on a server, where no catalog is replaced. Raises InvalidArgument when there is
    one."""
    server = Postgres(url, read_only=False, create=True)
    server.close()
    if server.existed:
        raise InvalidArgument(
            f"There is a catalog in {server.label}, and a rebuild replaces none on a server.",
            hint="Close the workspace everywhere, and move that catalog aside: "
            f"ALTER SCHEMA {server.schema} RENAME TO {server.schema}_before.",
        )
    with (
        Catalog(url, scope=TenantScope(), clock=clock) as catalog,
        catalog.all_tenants(),
        catalog.transaction(),
    ):
        unreadable += fill_catalog(catalog, recipes)
        rebind(catalog, folder, str(folder), clock.token(16))


def _rebuild_in_folder(
    folder: Path, recipes: Sequence[_Versions], unreadable: list[str], clock: Clock
) -> str | None:
    """Rebuild in a folder. Returns the file name that keeps the old catalog."""
    if session_count := remove_dead_locks(folder / "writers"):
        raise InvalidArgument(
            f"The workspace is open in {session_count} other "
            f"session{'s' if session_count > 1 else ''}; a catalog in use cannot be replaced.",
            hint="Close it there first: ws.close(), %jammi close, or end the kernel.",
        )
    remove_leftovers(folder / CATALOG_FILE)
    new_catalog = folder / f".{CATALOG_FILE}.{clock.token(8)}.tmp"
    try:
        with (
            Catalog(new_catalog, scope=TenantScope(), clock=clock) as catalog,
            catalog.all_tenants(),
            catalog.transaction(),
        ):
            unreadable += fill_catalog(catalog, recipes)
        check_whole(new_catalog)
        return _install_catalog(folder, new_catalog, clock)
    except BaseException:
        for file in (new_catalog, *(Path(f"{new_catalog}{suffix}") for suffix in ("-wal", "-shm"))):
            own_files.discard(file)
        raise


def _read_manifests(
    folder: StoragePath, on_progress: OnProgress | None
) -> tuple[list[_Versions], list[str]]:
    """The usable manifests by recipe, and the others with the reason."""
    files: list[_ManifestFile] = []
    unreadable: list[str] = []
    names: set[str] = set()
    if isinstance(folder, Path):
        own_files.check_folder(folder / "results")
    locations = list(manifests.list_manifests(folder))
    for location in report_each(locations, "rebuild", "manifests", on_progress):
        parquet = folder / (location.removesuffix(manifests.SUFFIX) + ".parquet")
        try:
            body = manifests.read(parquet)
            manifest = manifests.parse(body)
            if manifest is None or body is None:
                unreadable.append(f"{location}: it is not a manifest")
            elif manifest.seal and not is_sealed(body):
                unreadable.append(f"{location}: it was changed since it was written")
            elif fold(manifest.table_name) in names:
                unreadable.append(f"{location}: another table already has that name")
            else:
                files.append(
                    _ManifestFile(manifest, body, _to_record(manifest, body, parquet, location))
                )
                names.add(fold(manifest.table_name))
        except (JammiError, OSError, ValueError) as error:
            unreadable.append(
                f"{location}: {error.message if isinstance(error, JammiError) else error}"
            )
    by_recipe: dict[tuple[str | None, str], _Versions] = defaultdict(list)
    for file in files:
        by_recipe[file.record.tenant, fold(file.record.recipe)].append(file)
    return [_number_versions(versions) for versions in by_recipe.values()], unreadable


def _number_versions(group: _Versions) -> _Versions:
    """The tables of one recipe in order of creation: by version, or by time when a rename left two
    with the same number."""
    if len({file.record.version for file in group}) == len(group):
        return sorted(group, key=lambda file: file.record.version)
    by_time = sorted(group, key=lambda file: (file.manifest.produced_at, file.record.version))
    return [
        _ManifestFile(file.manifest, file.body, file.record.with_values(version=version))
        for version, file in enumerate(by_time, 1)
    ]


def _to_record(manifest: Manifest, body: bytes, parquet: StoragePath, location: str) -> TableRecord:
    """The catalog row of the table. Raises ValueError, NameInvalid or TableDamaged when
    the manifest has impossible values or belongs elsewhere."""
    tenant = manifest.tenant
    if tenant is not None and tenant_id(tenant) != tenant:
        raise NameInvalid(f"{tenant!r} is not a valid tenant.", name=tenant)
    if (tenant or SHARED_FOLDER, manifest.table_name) != (parquet.parent.name, parquet.stem):
        raise ValueError(
            f"it is the manifest of {manifest.table_name!r} of "
            f"{tenant or 'the shared scope'}, which belongs in another folder"
        )
    check_manifest(manifest)
    stat = regular_stat(parquet)
    path = location.removesuffix(manifests.SUFFIX) + ".parquet"
    return record_of_manifest(manifest, body, path, WRITER_ID, stat.size if stat else None)


def fill_catalog(catalog: Catalog, recipes: Sequence[_Versions]) -> list[str]:
    """Write recipes, versions, tables and lineage. All names are written before the first edge is
    resolved. A newest table with which its recipe would derive from itself is taken out of its
    versions; return the reason for each."""
    unused = []
    for versions in sorted(recipes, key=lambda versions: versions[-1].manifest.produced_at):
        while versions:
            try:
                catalog.recipes.define(_to_recipe(versions[-1].manifest))
                break
            except DependencyCycle as error:
                record = versions.pop().record
                location = record.path.removesuffix(".parquet") + manifests.SUFFIX
                unused.append(f"{location}: with its inputs, {error.message}")
    # All rows are begun before any is ready, so that edges between tables resolve in any order.
    files = [file for versions in recipes for file in versions]
    rows = [(catalog.table_status.begin(f.record), f.body) for f in files]
    for record, body in rows:
        catalog.table_status.publish(record, body)
    return unused


def _to_recipe(manifest: Manifest) -> RecipeRecord:
    inputs: list[Input] = [a.input for a in manifest.anchors if a.input.kind_class.has_rows]
    return RecipeRecord(
        name=manifest.recipe,
        kind=manifest.kind,
        descriptor=manifest.descriptor,
        environment=manifest.environment,
        definition_hash=manifest.definition_hash,
        tenant=manifest.tenant,
        inputs=[input_.identity for input_ in inputs],
        created_at=manifest.produced_at,
        updated_at=manifest.produced_at,
    )


def _install_catalog(folder: Path, new_catalog: Path, clock: Clock) -> str | None:
    """Replace the old catalog with the new one. Returns the name that keeps the old one.

    Without a catalog the workspace cannot be opened, so a crash in between leaves a state that can
    be rebuilt again.
    """
    old_name = None
    backup_name = f"{CATALOG_FILE}.before-{clock.token(8)}"
    # The count is of the old one. The log moves with its database: beside the new one it would be
    # replayed into it.
    own_files.discard(folder / f"{CATALOG_FILE}{SUFFIX}")
    for suffix in ("", "-wal", "-shm", "-journal"):
        if exists(file := folder / f"{CATALOG_FILE}{suffix}"):
            os.replace(file, folder / f"{backup_name}{suffix}")
            old_name = backup_name
            fault_point("rebuild:aside")
    os.replace(new_catalog, folder / CATALOG_FILE)
    sync_folder(folder)
    fault_point("rebuild:done")
    return old_name
