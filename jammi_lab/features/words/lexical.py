"""The recipe of the words of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN, CanonicalStatement
from jammi_lab.core.identifiers import list_of_names
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.recipes import NAMES, Stored
from jammi_lab.steps.recipe import BindContext
from jammi_lab.steps.row_recipe import RowRecipe

if TYPE_CHECKING:
    from jammi_lab.steps.jobs import Job

Analyzer = Literal["english", "simple", "exact"]
"""How texts become terms."""


@dataclass(frozen=True)
class Lexical(RowRecipe):
    """The words of the texts of a source, table or SQL."""

    kind = "lexical"
    has_words = has_texts = True
    revision = 2
    stored_as = {
        **RowRecipe.stored_statement,
        "source": Stored("asked", hashed=False),
        "text": NAMES,
        "where": None,
    }

    source: str
    """The source, table or SQL that holds the texts."""
    _: KW_ONLY
    key: str
    """The column that identifies a row."""
    text: str | Sequence[str]
    """The columns whose words are searched."""
    analyzer: Analyzer = "english"
    """English words as stems, words in lower case, or tokens as written."""
    where: str | None = None
    """A condition that rows must satisfy."""
    _statement: str = field(default="", init=False)
    _canonical: CanonicalStatement | None = field(default=None, init=False)

    def bind(self, ctx: BindContext) -> "Job":
        """Raises InvalidArgument, TableNotFound, SchemaMismatch, and what binding SQL raises."""
        from jammi_lab.features.words.analyzers import check_analyzer
        from jammi_lab.features.words.lexical_work import LexicalWork
        from jammi_lab.steps.text_statement import check_text_columns

        written = self.with_values(text=self.input_columns())
        check_text_columns(self.key, written.input_columns(), "a lexical table")
        check_analyzer(self.analyzer)
        recipe, prepared = written.with_statement(ctx, self.source, self.where, "to search")
        environment = self.environment(ctx)

        def is_reusable(manifest: Manifest) -> bool:
            return manifest.descriptor.get("analyzer") == self.analyzer and all(
                manifest.environment.get(part) == environment[part]
                for part in ("revision", "analysis")
            )

        rows = recipe.row_wise(
            ctx,
            prepared,
            "key",
            lambda: LexicalWork(self.analyzer),
            is_reusable,
        )
        return ctx.job(
            recipe,
            [prepared],
            start=rows.start,
            key=["key"],
            columns={"key": prepared.output[0][1]}
            | {"terms": "VARCHAR", "length": "INTEGER", TEXT_DIGEST_COLUMN: "BLOB"},
        )

    def input_columns(self) -> Sequence[str]:
        """The columns of texts."""
        return list_of_names(self.text)

    def environment(
        self, ctx: BindContext, _recorded: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """With the version of the analysis."""
        from jammi_lab.features.words.analyzers import analysis_version

        return super().environment(ctx) | {"analysis": analysis_version()}
