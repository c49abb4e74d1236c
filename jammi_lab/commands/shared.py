"""The commands that cells and the shell share, each as a method, and what a command answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.commands.table import Verb
from jammi_lab.commands.words import Values
from jammi_lab.core.argument_suggestions import answer_arguments
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, plain_text
from jammi_lab.core.verdicts import Match, MatchWithUnpinnedInputs

if TYPE_CHECKING:
    from jammi_lab.features.prose.text_check import ProseChecker, TextCheck
    from jammi_lab.workspace.workspace import Workspace

_TABLE_KEYS = "name version table_name kind status row_count bytes created_at completed_at"


@dataclass(frozen=True)
class Answer:
    """What a command found. One that answers anything else is shown as that."""

    value: Any
    """What is shown, and what a line returns."""
    json: Callable[[], Any] | None = None
    """Computes what `--json` prints; None prints the value."""
    failed: bool = False
    """Whether the shell's `--fail` exits with 1."""
    broken: bool = False
    """Whether the shell exits with 1 without `--fail`, too."""
    remarks: tuple[str, ...] = ()
    """Sentences that the shell prints below, with `--json` on standard error."""
    panel: tuple[str, tuple[Any, ...], Mapping[str, Any]] | None = None
    """What shows it in a notebook: the name of a panel, and its arguments behind the workspace."""


def fields_of(value: Any, keys: str) -> Callable[[], dict[str, Any]]:
    """Computes some attributes of a value, by name, as `--json` prints them."""
    return lambda: {key: getattr(value, key) for key in keys.split()}


class _Shown:
    """A list or dict that is shown in a form of its own."""

    __repr__ = ReprMixin.__repr__

    def __init__(self, values: Any, form: Rendered) -> None:
        super().__init__(values)  # type: ignore[call-arg]  # of the list or dict
        self._form = form

    def _rendered(self) -> Rendered:
        return self._form


class ShownList(_Shown, list[Any], ReprMixin):
    """Such a list."""


class ShownDict(_Shown, dict[str, Any], ReprMixin):
    """Such a dict."""


class SharedVerbs:
    """The commands of both places. A surface adds its own, and says which workspace they are on."""

    @property
    def _ws(self) -> "Workspace":
        raise NotImplementedError

    @answer_arguments
    def run(self, verb: Verb, values: Values) -> Any:
        """Run a command: the function of its package, the method here, or else the workspace's of
        that name. Returns an Answer, or what is shown."""
        if verb.function is not None:
            return verb.function(self._ws, values)
        name = verb.name.replace("-", "_") or "where"
        if (own := getattr(self, f"_{name}", None)) is not None:
            return own(values)
        arguments = [values[argument.name] or None for argument in verb.arguments]
        return getattr(self._ws, name)(
            *arguments, **given_values(values, *(f.key for f in verb.flags))
        )

    def _sources(self, _: Values) -> Answer:
        def rows() -> Any:
            statement = "SELECT * FROM jammi_catalog.sources ORDER BY name"
            return self._ws.sql(statement).arrow().to_pylist()

        return Answer(self._ws.sources, rows)

    def _tables(self, values: Values) -> Answer:
        tables = self._ws.tables(status=None if values["all"] else "ready")
        return Answer(tables, lambda: [fields_of(table, _TABLE_KEYS)() for table in tables])

    def _search(self, values: Values) -> Any:
        options = given_values(values, "k", "words", "where", "select")
        hits = self._ws.search(values["TABLE"], " ".join(values["TEXT"]), **options)
        hits.limit = max(hits.limit, options.get("k", 10))
        return hits

    def _status(self, values: Values) -> Answer:
        board = self._ws.status(deep=values["deep"])
        return Answer(board, lambda: board.arrow().to_pylist(), panel=("StalenessBoard", (), {}))

    def _why(self, values: Values) -> Answer:
        explanation = self._ws.why(values["NAME"])
        verdict = explanation.verdict.to_dict()
        relies_on_grounds = "grounds" in values.get("fail", ()) and verdict.get("grounds")
        return Answer(
            explanation,
            fields_of(explanation, "name verdict lines"),
            failed=verdict["kind"] != "fresh" or bool(relies_on_grounds),
        )

    def _verify(self, values: Values) -> Answer:
        names = values["NAME"] or [row.name for row in self._ws.status() if row.version is not None]
        results = {name: self._ws.verify(name) for name in names}
        matching = Match | MatchWithUnpinnedInputs
        failed = any(not isinstance(result, matching) for result in results.values())
        rows = [(name, result._rendered()) for name, result in results.items()]
        form = listing_table(["name", "result"], rows, aligned="ll")
        if not rows:
            form = plain_text("No result tables yet.")
        return Answer(ShownDict(results, form), failed=failed)

    def _lineage(self, values: Values) -> Answer:
        name, columns = values["NAME"], values["columns"]
        if values["up"] and values["down"]:
            raise InvalidArgument(
                "Use --up or --down, not both; without them, both directions are shown."
            )
        direction: Any = "up" if values["up"] else "down" if values["down"] else "both"
        graph = self._ws.lineage(name, direction=direction, columns=columns)
        kinds = "nodes edges column_edges" if columns else "nodes edges"
        options = {"direction": direction, "columns": columns}
        return Answer(
            graph,
            fields_of(graph, kinds),
            panel=("LineageGraph", (name,), options),
        )

    def _plan(self, values: Values) -> Answer:
        plan = self._ws.plan(values["NAME"] or None)
        keys = "certain possible reused blocked checks seconds_at_least seconds_at_most"
        return Answer(plan, fields_of(plan, keys), failed=bool(plan))

    def _recompute(self, values: Values) -> Answer:
        report = self._ws.recompute(values["NAME"] or None)
        outcomes = {step.outcome for step in report.steps}
        return Answer(
            report,
            fields_of(report, "steps deviations"),
            failed=bool(outcomes & {"blocked", "skipped"}),
            broken=bool(outcomes & {"failed", "rejected"}),
        )

    def _check(self, values: Values) -> Answer:
        results = self._ws.check(values["NAME"] or None)
        return Answer(results, lambda: results.arrow().to_pylist(), bool(results.failed))

    def _copy(self, values: Values) -> Answer:
        from jammi_lab.workspace.copy import copy_workspace

        result = copy_workspace(self._ws, values["TARGET"])
        return Answer(result, fields_of(result, "target tables missing"))

    def _fsck(self, values: Values) -> Answer:
        report = self._ws.fsck(repair=values["repair"], deep=values["deep"])
        return Answer(
            report,
            fields_of(report, "missing orphans damaged repaired failed reclaimed bytes_reclaimed"),
            failed=bool(report.missing or report.damaged or report.failed),
        )


def check_texts(
    files: Iterable[str], checker_of: "Callable[[Path], ProseChecker]", *, update: bool
) -> "TextCheck":
    """Compare the numbers of files with the tables. All files are read before one is written.
    InvalidArgument."""
    from jammi_lab.features.prose.documents import read_document
    from jammi_lab.features.prose.text_check import TextCheck

    result, documents = TextCheck(), [read_document(Path(file)) for file in dict.fromkeys(files)]
    for document in documents:
        found = checker_of(document.file).check(document, update=update)
        result.extend(found)
        result.notes += found.notes
    for document in documents:
        if any(prose.edits for prose in document.proses):
            document.save()
    return result


def given_values(values: Values, *keys: str) -> Values:
    """The values that were given; for others the call has defaults."""
    return {key: values[key] for key in keys if values[key] not in (None, [])}
