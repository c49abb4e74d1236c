"""Rebuild: a new catalog from the manifests, when the old one is lost or damaged."""

import graphlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.file_locks import forget_dead
from jammi_lab.catalog.replacing import replacing
from jammi_lab.clock import Clock
from jammi_lab.errors import CatalogTooNew, InvalidArgument, JammiError, NameInvalid, WorkspaceNotFound
from jammi_lab.names import fold
from jammi_lab.storage.files import Place, fault_point, plain_stat
from jammi_lab.storage.syncing import sync_folder
from jammi_lab.store import manifests
from jammi_lab.store.attested import Footers, check_manifest
from jammi_lab.store.claim import adopt
from jammi_lab.store.reports import RebuildReport
from jammi_lab.store.results import SHARED_FOLDER
from jammi_lab.tenancy import TenantScope, tenant_id
from jammi_lab.values.anchors import Input, InputKind
from jammi_lab.values.manifest import Manifest, is_sealed
from jammi_lab.values.records import Progress, RecipeRecord, TableKind, TableRecord, TableStatus

CATALOG = "catalog.sqlite3"
WRITER = "rebuild"
LOST = (
    "sources: they have to be added again, under the same names",
    "definitions that were changed and not run since, and recipes that never had a ready version",
    "new names that recipes were given after a table was made",
    "versions that referred to the bytes of another one, pins and their notes",
    "failed attempts, and what earlier looks saw of the inputs",
    "mutable tables, topics and models' records",
)


@dataclass(frozen=True)
class _Found:
    """One manifest in its place."""

    manifest: Manifest
    body: bytes
    record: TableRecord


_Recipe = tuple[str | None, str]
"""Whose it is, and the fold of its name."""

_ByRecipe = dict[_Recipe, list[_Found]]


def rebuild(folder: Place, clock: Clock, url: str = "", on_progress: Callable[[Progress], None] | None = None) -> RebuildReport:
    """Make a new catalog from the manifests under `results/`, put it in place of the old one, which is kept aside, and say what it lacks. `url`: that
    of the catalog, when it is on a server.

    Versions keep their numbers where these tell them apart, else they are numbered by the time they were made. No table's file is touched.
    Raises WorkspaceNotFound when there is neither a catalog nor a manifest, InvalidArgument while a kernel has the workspace open, CatalogTooNew
    when a later release wrote the old catalog.
    """
    if not manifests.any_below(folder) and not (isinstance(folder, Path) and (folder / CATALOG).exists()):
        raise WorkspaceNotFound(f"There is no workspace in {str(folder)!r}, and no manifest to make a catalog from.")
    if old := url or (folder / CATALOG if isinstance(folder, Path) else ""):
        _refuse_later(old, clock)
    found, unreadable = _read(folder, on_progress)
    kept = _in_folder(folder, found, clock) if isinstance(folder, Path) and not url else _on_server(folder, url, found, clock)
    recipes = {(f.record.tenant, fold(f.record.recipe)): f.record.recipe for f in found}
    return RebuildReport(
        recipes=sorted(recipes.values()),
        tables=[f.record.table_name for f in found],
        missing=[f.record.table_name for f in found if plain_stat(folder / f.record.path) is None],
        altered=[f"{f.record.path.removesuffix('.parquet')}{manifests.SUFFIX}" for f in found if f.manifest.seal and not is_sealed(f.body)],
        unreadable=unreadable,
        sources=sorted({a.input.name for f in found for a in f.manifest.anchors if a.input.kind is InputKind.SOURCE}),
        kept=kept,
        lost=list(LOST),
    )


def _refuse_later(old: Path | str, clock: Clock) -> None:
    """CatalogTooNew for a catalog that is neither lost nor damaged, but a later release's; whatever else keeps it from being read is no hindrance."""
    try:
        Catalog(old, scope=TenantScope(), clock=clock, read_only=True, create=False).close()
    except CatalogTooNew:
        raise
    except (JammiError, OSError, ValueError, sa.exc.SQLAlchemyError):
        return


def held_only_in(catalog: Catalog) -> dict[str, list[str]]:
    """What a catalog holds of all tenants that no manifest does, by kind, in words. TableDamaged when it is not sound."""
    catalog.require_sound()
    with catalog.everyone():
        return {
            "mutable tables": [table.name for table in catalog.mutables.list()],
            "topics": [topic.name for topic in catalog.topics.list()],
            "sources": [source.name for source in catalog.sources.list()],
            "models": list(dict.fromkeys(model.name for model in catalog.models.list())),
        }


def _on_server(folder: Place, url: str, found: Sequence[_Found], clock: Clock) -> str | None:
    """The schema that the old catalog is kept in."""
    with replacing(url, clock.token(8)) as (place, put):
        with Catalog(place, scope=TenantScope(), clock=clock) as catalog, catalog.everyone(), catalog.transaction():
            _fill(catalog, found)
            adopt(catalog, folder, str(folder), clock.token(16))
        kept = put()
        fault_point("rebuild:done")
    return kept


def _in_folder(folder: Path, found: Sequence[_Found], clock: Clock) -> str | None:
    """The name under which the old catalog is kept."""
    if alive := forget_dead(folder / "writers"):
        raise InvalidArgument(
            f"The workspace is open in {alive} place{'s' if alive > 1 else ''}; a catalog in use cannot be replaced.",
            hint="Close it there first: ws.close(), %jammi close, or end the kernel.",
        )
    for left in folder.glob(f".{CATALOG}.*.tmp*"):
        left.unlink()
    made = folder / f".{CATALOG}.{clock.token(8)}.tmp"
    try:
        with Catalog(made, scope=TenantScope(), clock=clock) as catalog, catalog.everyone(), catalog.transaction():
            _fill(catalog, found)
        return _put(folder, made, clock)
    except BaseException:
        for each in (made, *(Path(f"{made}{suffix}") for suffix in ("-wal", "-shm"))):
            each.unlink(missing_ok=True)
        raise


def _read(folder: Place, on_progress: Callable[[Progress], None] | None) -> tuple[list[_Found], list[str]]:
    """The manifests that can be taken over, oldest version first in each recipe, and the others with the reason."""
    found: list[_Found] = []
    unreadable: list[str] = []
    names: set[str] = set()
    lying = manifests.found_below(folder)
    with Footers() as footers:
        for done, (place, path) in enumerate(lying):
            if on_progress is not None:
                on_progress(Progress(stage="rebuild", done=done, total=len(lying), unit="manifests"))
            parquet = path.with_name(path.name.removesuffix(manifests.SUFFIX) + ".parquet")
            try:
                body = manifests.read(parquet)
                manifest = manifests.parse(body)
                if manifest is None or body is None:
                    unreadable.append(f"{place}: it holds no manifest")
                elif fold(manifest.table_name) in names:
                    unreadable.append(f"{place}: there is another table of that name")
                else:
                    found.append(_Found(manifest, body, _record(manifest, body, parquet, place, footers)))
                    names.add(fold(manifest.table_name))
            except (JammiError, OSError, ValueError, msgspec.MsgspecError) as error:
                unreadable.append(f"{place}: {error.message if isinstance(error, JammiError) else error}")
    by_recipe: _ByRecipe = defaultdict(list)
    for each in found:
        by_recipe[each.record.tenant, fold(each.record.recipe)].append(each)
    by_recipe = {place: list(_numbered(group)) for place, group in by_recipe.items()}
    unreadable += _without_circles(by_recipe)
    return [each for group in by_recipe.values() for each in group], unreadable


def _without_circles(by_recipe: _ByRecipe) -> list[str]:
    """Take out what would make recipes derive from themselves, and name it: of each circle the table that was made last, which closed it."""
    left_out = []
    while circle := _circle({place: group[-1] for place, group in by_recipe.items() if group}):
        last = max(circle, key=lambda place: (by_recipe[place][-1].manifest.produced_at, by_recipe[place][-1].record.table_name))
        closing = by_recipe[last].pop()
        left_out.append(
            f"{closing.record.path.removesuffix('.parquet')}{manifests.SUFFIX}: by what it was made from, {closing.record.recipe!r} "
            "would derive from itself"
        )
    return left_out


def _circle(newest: Mapping[_Recipe, _Found]) -> list[_Recipe]:
    """Recipes each of which reads another of them; none when there is no such circle. Own ones hide shared ones."""

    def read(place: _Recipe) -> Iterator[_Recipe]:
        for anchor in newest[place].manifest.anchors:
            if anchor.input.kind is InputKind.RESULT:
                folded = fold(anchor.input.name)
                yield from [each for each in ((place[0], folded), (None, folded)) if each in newest][:1]

    try:
        graphlib.TopologicalSorter({place: set(read(place)) for place in newest}).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def _numbered(group: Sequence[_Found]) -> Iterable[_Found]:
    """The tables of one recipe in the order of their making: by number, unless a renamed recipe left two of one number, then by time."""
    if len({each.record.version for each in group}) == len(group):
        return sorted(group, key=lambda each: each.record.version)
    again = sorted(group, key=lambda each: (each.manifest.produced_at, each.record.version))
    return [_Found(each.manifest, each.body, msgspec.structs.replace(each.record, version=at)) for at, each in enumerate(again, 1)]


def _record(manifest: Manifest, body: bytes, parquet: Place, place: str, footers: Footers) -> TableRecord:
    """The row that the table had. ValueError, NameInvalid, msgspec.ValidationError when the manifest says things that cannot be, or is not in its
    place."""
    tenant = manifest.tenant
    if tenant is not None and tenant_id(tenant) != tenant:
        raise NameInvalid(f"{tenant!r} cannot be a tenant.", name=tenant)
    if (tenant or SHARED_FOLDER, manifest.table_name) != (parquet.parent.name, parquet.stem):
        raise ValueError(f"it is the manifest of {manifest.table_name!r} of {tenant or 'the shared scope'}, which is not here")
    check_manifest(manifest)
    rows = footers.check(manifest, parquet)
    stat = plain_stat(parquet)
    return TableRecord(
        table_name=manifest.table_name,
        kind=TableKind(manifest.kind),
        status=TableStatus.BUILDING,
        recipe=manifest.recipe,
        version=manifest.version,
        tenant=tenant,
        writer_id=WRITER,
        definition_hash=manifest.definition_hash,
        path=place.removesuffix(manifests.SUFFIX) + ".parquet",
        source_id=manifest.source_id,
        model_id=manifest.model_id,
        derived_from=manifest.derived_from,
        key=manifest.key,
        dimensions=manifest.dimensions,
        row_count=rows,
        bytes=stat.size if stat else None,
        created_at=manifest.produced_at,
        completed_at=manifest.produced_at,
        seconds=manifest.seconds,
        columns=manifest.columns,
        anchors=manifest.anchors,
        digest=manifest.artifact.digest,
        manifest_digest=manifests.digest(body),
        order_sensitive=manifest.order_sensitive,
        flight=False,
    )


def _fill(catalog: Catalog, found: Sequence[_Found]) -> None:
    """Write recipes, versions, tables and lineage; every name is there before the first edge is resolved."""
    newest = {(f.record.tenant, fold(f.record.recipe)): f for f in found}
    for each in newest.values():
        catalog.recipes.put(_recipe(each.manifest))
    begun = [(catalog.publish.begin(f.record), f.body) for f in found]
    for record, body in begun:
        catalog.publish.ready(record, body)


def _recipe(manifest: Manifest) -> RecipeRecord:
    read: list[Input] = [a.input for a in manifest.anchors if a.input.kind is not InputKind.CLOCK]
    return RecipeRecord(
        name=manifest.recipe,
        kind=TableKind(manifest.kind),
        descriptor=manifest.descriptor,
        environment=manifest.environment,
        definition_hash=manifest.definition_hash,
        tenant=manifest.tenant,
        inputs=[each.identity for each in read],
        created_at=manifest.produced_at,
        updated_at=manifest.produced_at,
    )


def _put(folder: Path, made: Path, clock: Clock) -> str | None:
    """Put the new catalog in the old one's place; the name under which the old one is kept.

    Without a catalog nothing opens the workspace, so a crash in between leaves what can be rebuilt again."""
    kept = None
    aside = f"{CATALOG}.before-{clock.token(8)}"
    for suffix in ("", "-wal", "-shm"):  # the log goes with its file: under the new one's name it would be replayed into it
        if (old := folder / f"{CATALOG}{suffix}").exists():
            os.replace(old, folder / f"{aside}{suffix}")
            kept = aside
            fault_point("rebuild:aside")
    os.replace(made, folder / CATALOG)
    sync_folder(folder)
    fault_point("rebuild:done")
    return kept
