"""Recipes that compute each row of a statement by itself: its key, and what its other columns
give."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN, CanonicalStatement, StepInput
from jammi_lab.core.errors import SqlError
from jammi_lab.core.identifiers import fold
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.recipes import Stored
from jammi_lab.steps.recipe import BindContext, RunnableRecipe
from jammi_lab.store.result_files import ResultFiles

if TYPE_CHECKING:
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.steps.row_wise import RowWise, RowWork


class RowRecipe(RunnableRecipe):
    """A recipe of rows that are computed one by one. The fields are those of its subclasses, which
    are dataclasses."""

    reads_sql = True
    reuses_rows = True
    stored_statement: ClassVar[Mapping[str, Stored]] = {
        "_statement": Stored("statement", hashed=False),
        "_canonical": Stored("canonical", CanonicalStatement),
    }
    """How the fields of the statement are stored."""
    key: str
    _statement: str
    """The SELECT of key and columns. Empty until the recipe is bound."""
    _canonical: CanonicalStatement | None
    """Its canonical form."""

    def input_columns(self) -> Sequence[str]:
        """The columns that a row is computed from."""
        raise NotImplementedError

    def with_statement(
        self, ctx: BindContext, source: str, where: str | None, purpose: str
    ) -> "tuple[Self, PreparedStatement]":
        """The recipe with the statement that reads its rows, prepared. Raises TableNotFound,
        SchemaMismatch for a missing column, and what binding SQL raises."""
        from jammi_lab.steps.from_clause import from_text
        from jammi_lab.steps.text_statement import text_statement

        if self._statement:
            [prepared] = ctx.prepare(self._statement)
            return self.with_values(_canonical=prepared.canonical()), prepared
        columns = self.input_columns()
        statement = text_statement(from_text(ctx, source, purpose), self.key, columns, where)
        try:
            [prepared] = ctx.prepare(statement)
        except SqlError:
            # that of a missing column would quote a statement that the user did not write
            ctx.load_table(source, [self.key, *columns])
            raise
        return self.with_values(_statement=statement, _canonical=prepared.canonical()), prepared

    def row_wise(
        self,
        ctx: BindContext,
        prepared: "PreparedStatement",
        key_column: str,
        new_work: "Callable[[], RowWork]",
        is_reusable: Callable[[Manifest], bool],
    ) -> "RowWise":
        """The work of the bound recipe. `is_reusable`: whether equal inputs of a version have equal
        outputs. Raises SchemaMismatch for a key or a text of another type."""
        from jammi_lab.steps.row_wise import RowWise
        from jammi_lab.steps.text_statement import column_positions

        columns = self.input_columns()
        return RowWise(
            ctx.part(Catalog),
            ctx.part(ResultFiles),
            ctx.name,
            self,
            self.environment(ctx),
            prepared,
            column_positions(prepared, self.key, columns, are_texts=self.has_texts),
            key_column,
            new_work,
            is_reusable,
            ignore_known=ctx.bypass_cache,
        )

    def recorded_inputs(self) -> list[StepInput]:
        """The statement."""
        assert self._canonical is not None, "it is bound"
        return [StepInput("", self._statement, self._canonical)]

    def column_reads(
        self, names: Sequence[str], inputs: "Sequence[Sequence[ColumnReads]]"
    ) -> "list[ColumnReads]":
        """The key comes from the key, all else from the columns that are read."""
        from jammi_lab.engine.sql.column_lineage import ColumnReads, union_reads

        [reads] = inputs
        folded = {fold(name) for name in self.input_columns()}
        columns = [read for read in reads if fold(read.column) in folded]
        all_reads = union_reads(column.reads for column in columns)
        direct = union_reads(column.direct for column in columns)
        return [
            ColumnReads(names[0], reads[0].reads, reads[0].direct),
            *(
                ColumnReads(name, all_reads, direct)
                for name in names[1:]
                if name != TEXT_DIGEST_COLUMN
            ),
        ]
