"""In which columns and rows a changed input differs from what was read, in a few words."""

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor, Identity
from jammi_lab.core.records import TableRecord
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.freshness.recipe_graph import RecipeGraph
from jammi_lab.inputs.changed_columns import column_difference, difference_text
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.result_names import find_recorded_version
from jammi_lab.inputs.version_changes import common_columns, equal_columns


class InputDifferences:
    """The differences of one observation pass, each determined once."""

    def __init__(
        self, catalog: Catalog, scope: TenantScope, graph: RecipeGraph, observation: Observation
    ) -> None:
        self._catalog, self._scope = catalog, scope
        self._graph, self._observation = graph, observation
        self._texts = dict[tuple[str | None, Identity, str, str], str]()

    def describe(self, recorded: Anchor, current: Anchor, tenant: str | None) -> str:
        """`only price, 3 → 4 rows` for two states of an input; empty when that is not known."""
        key = (tenant, recorded.input.identity, recorded.value, current.value)
        if key not in self._texts:
            self._texts[key] = self._describe(recorded, current, tenant)
        return self._texts[key]

    def _describe(self, recorded: Anchor, current: Anchor, tenant: str | None) -> str:
        if recorded.input.kind_class.is_external:
            with self._scope.use(tenant):
                self._observation.note_columns([current])
            return column_difference(recorded, current, self._observation.cache)
        versions = self.versions(recorded, tenant)
        if versions is None or not recorded.input.kind_class.is_result:
            return ""
        return _by_digests(*versions, recorded.columns)

    def versions(
        self, recorded: Anchor, tenant: str | None
    ) -> tuple[TableRecord, TableRecord] | None:
        """The newest version of a table and the one that was read; None when there is no such
        version any more, or it is another table than the one that was read."""
        parent = self._graph.find(recorded.input.name, tenant)
        if parent is None or parent.record is None:
            return None
        with self._scope.use(parent.tenant):
            version = find_recorded_version(self._catalog, parent.name, recorded)
        return None if version is None else (parent.record, version)


def _by_digests(new: TableRecord, old: TableRecord, columns: tuple[str, ...]) -> str:
    """The columns that differ by their published digests, when they are some of those read, and the
    numbers of rows."""
    equal = equal_columns(new, old, common_columns(new, old))
    differing = [name for name in columns if name not in equal]
    only = differing if len(differing) < len(columns) else []
    return difference_text(only, old.row_count, new.row_count)
