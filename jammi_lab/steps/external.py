"""The producer `external`: rows that were computed outside the workspace and registered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jammi_lab.core.anchors import FrameOrigin, given_rows
from jammi_lab.core.errors import InvalidArgument, NotRecomputable
from jammi_lab.core.identifiers import list_of_names
from jammi_lab.core.recipes import NAMES, PARAMS
from jammi_lab.engine.parameters import merge_params
from jammi_lab.steps.recipe import BindContext, RunnableRecipe

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.steps.jobs import Job


@dataclass(frozen=True)
class External(RunnableRecipe):
    """Rows that were computed elsewhere and passed in."""

    kind = "external"
    resupply_hint = (
        "Its rows were computed elsewhere: pass them again with ws.register({0!r}, frame, …)"
    )
    stored_as = {"params": PARAMS, "key": NAMES, "inputs": None, "rows": None, "origin": None}

    producer_id: str
    """What computed them."""
    params: Mapping[str, Any] | None = None
    """Its parameters."""
    key: str | Sequence[str] | None = None
    """The key columns."""
    inputs: Sequence[str] = ()
    """The sources and tables that it read."""
    rows: "pa.Table | None" = field(default=None, compare=False)
    """The rows; None once the recipe was stored."""
    origin: FrameOrigin | None = None
    """What they were made from, where that is known."""
    rows_digest: str = field(default="", init=False)
    """Digest of the rows."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises TableNotFound with near names when an input is neither a source nor a recipe,
        SchemaMismatch when a key column is missing, StatementNotAllowed when a recorded text
        contains a password, NotRecomputable without rows."""
        from jammi_lab.engine.sql import credential_check
        from jammi_lab.steps.input_tables import merged_inputs
        from jammi_lab.steps.jobs import RunningJob, TableRows
        from jammi_lab.steps.key_check import key_columns
        from jammi_lab.storage.arrow_digests import rows_digest

        if self.rows is None:
            raise NotRecomputable(
                f"{ctx.name!r} was computed outside the workspace, by {self.producer_id!r}; it "
                "cannot be recomputed here.",
                hint=f"Run {self.producer_id} again and call ws.register({ctx.name!r}, frame, …).",
            )
        if type(self.producer_id) is not str:  # a str of NumPy is not stored
            raise InvalidArgument(f"producer must be a string, got {self.producer_id!r}.")
        credential_check.check_text("The name of the producer", self.producer_id)
        for name, value in merge_params(self.params).items():
            credential_check.check_text(f"The value of {name!r}", value)
        rows = self.rows.replace_schema_metadata(None)
        key = key_columns([str(name) for name in rows.schema.names], list_of_names(self.key))
        digest = rows_digest(rows)
        return ctx.job(
            self.with_values(key=key, rows_digest=digest),
            inputs=merged_inputs([ctx.load_whole(each) for each in self.inputs]),
            start=lambda _: RunningJob(TableRows(rows)),
            key=key,
            rows_anchor=None if self.origin is None else given_rows(digest, self.origin),
        )

    def missing_requirement(self, _: BindContext) -> str | None:
        """The rows are not stored with the recipe."""
        return f"produced externally, by {self.producer_id}"
