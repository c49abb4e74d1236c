"""Checks stamped outputs and files against their workspace: whether what is shown still holds.
Nothing is computed, and no kernel is needed."""

import ast
import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jammi_lab.core import junit
from jammi_lab.core.anchors import Input, Snapshot, Unknown, Vanished, compares_content
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import InvalidArgument, JammiError, NameInvalid, WorkspaceNotFound
from jammi_lab.core.html import escape_invisible
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.core.junit import Case
from jammi_lab.core.records import TableStatus
from jammi_lab.core.verdicts import (
    Fresh,
    Verdict,
    causes_of,
    count_by_label,
    marked_label,
    reasons_of,
)
from jammi_lab.features.outputs.file_stamps import read_stamp
from jammi_lab.features.outputs.stamps import (
    STAMP_KEY,
    Stamp,
    StampedSource,
    StampedTable,
    code_digest,
    short,
    shown_digest,
    stamp_from,
    value_digest,
)
from jammi_lab.inputs.path_names import record_of
from jammi_lab.inputs.source_names import JAMMI_CATALOG
from jammi_lab.sources.read_errors import read_outside_file, unreadable_text_error
from jammi_lab.storage.trusted_folders import newest_folders
from jammi_lab.store.workspace_identity import CATALOG_FILE, ID_FILE, has_server_catalog

if TYPE_CHECKING:
    from jammi_lab.core.records import TableRecord, VersionRecord
    from jammi_lab.features.prose.text_check import ProseChecker
    from jammi_lab.inputs.observation import Observation
    from jammi_lab.workspace.assembly import Services

FRESH, OUTDATED, STALE, EDITED, UNKNOWN = "fresh", "outdated", "stale", "edited", "unknown"
CHANGED_OUTCOMES = (OUTDATED, STALE, EDITED)
"""The outcomes of what certainly does not hold."""
FAILING_OUTCOMES = (*CHANGED_OUTCOMES, UNKNOWN)
_MAX_PARENTS = 3
"""Folders above a file in which its workspace is looked for."""
_MAX_ELSEWHERE = 16
"""Workspaces of this user that are looked at when it is not there."""
_MAX_NAMED_WORKSPACES = 3
SEARCH_SECONDS = 5.0
"""How long a workspace that was not found, or could not be opened, is not looked for again while
the same outputs are checked repeatedly."""
_CELL_MAGIC = "%%jammi"
_LINE_MAGIC = "%jammi"
_STAMPED_LINES = frozenset(
    {
        "catalog",
        "diff",
        "embed",
        "graph",
        "history",
        "lexical",
        "lineage",
        "map",
        "neighbors",
        "preview",
        "restore",
        "search",
        "status",
        "view",
    }
)
"""The lines of `%jammi` whose outputs have stamps."""
_OF_CATALOG = (f"{JAMMI_CATALOG}.", "show tables")
"""Begin the names of parts that are the catalog."""
_RULE = "───"
"""It stands below the names of columns where a table is text."""
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class ShownTable:
    """One table that an output or a file shows, and whether it still holds."""

    file: str
    """The notebook or file."""
    cell: int | None
    """The number of the cell in the notebook, from 1; None for a file."""
    table: str | None
    """The table or source; None when there is no stamp."""
    version: int | None
    """The version that is shown."""
    outcome: str
    """fresh, outdated, stale, edited or unknown."""
    reason: str = ""
    """Why; the grounds of a fresh one."""

    def __str__(self) -> str:
        place = self.file if self.cell is None else f"{self.file} cell {self.cell}"
        version = "" if self.version is None else f" version {self.version}"
        shown = "" if self.table is None else f"{self.table}{version}: "
        because = "" if not self.reason else f"{' because' * (self.outcome == STALE)} {self.reason}"
        return escape_invisible(f"{place}: {shown}{self.outcome}{':' * bool(because)}{because}")

    @property
    def has_grounds(self) -> bool:
        """Whether it is fresh as far as its grounds go, such as a frame that was stored."""
        return self.outcome == FRESH and self.table is not None and bool(self.reason)

    def to_dict(self) -> dict[str, Any]:
        """The fields, as in `--json`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Shown(NamedTuple):
    """One stamped output."""

    file: Path
    cell: int | None
    stamp: Stamp | None
    digest: str
    """The digest of what is shown now."""
    changed: tuple[str, str] | None = None
    """The outcome and the reason when the notebook itself shows that the output is not that of its
    cells."""


def shown_in_notebook(file: Path) -> Iterator[Shown]:
    """The stamped outputs of a notebook, and outputs of `%%jammi` cells without a stamp.
    InvalidArgument when it is no notebook."""
    data = read_outside_file(file)
    try:
        notebook = json.loads(data)
        assigned: dict[str, Assignment] = {}
        for number, cell in enumerate(notebook["cells"], 1):
            yield from _shown_in_cell(file, number, cell, assigned)
            assigned |= _assignments(number, cell)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidArgument(f"{str(file)!r} is not a notebook of format 4.") from None


class Assignment(NamedTuple):
    """The last assignment to a variable above a cell."""

    cell: int
    """The number of the cell with it."""
    ran_as: int
    """The execution count of that cell; 0 when it was not run."""
    digest: str | None
    """The digest of a literal value; None for any other expression."""


def _source_of(cell: Mapping[str, Any]) -> str:
    return "".join(cell["source"])


def _assignments(number: int, cell: Mapping[str, Any]) -> dict[str, Assignment]:
    """The variables that a cell assigns at its top level."""
    source = _source_of(cell)
    is_python = not source.startswith("%%") or source.startswith(("%%time", "%%capture"))
    if cell.get("cell_type") != "code" or not is_python:
        return {}
    lines = [line for line in source.splitlines() if not line.startswith(("%", "!"))]
    try:
        statements = ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: nested deeply
        return {}
    ran_as = cell.get("execution_count") or 0
    found: dict[str, Assignment] = {}
    digest_of_literal = functools.cache(_digest_of_literal)  # a = b = … assigns one value
    for statement in statements:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue  # what they assign is not the notebook's
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found[node.id] = Assignment(number, ran_as, None)
        for name, value in _values_by_name(statement):
            found[name] = Assignment(number, ran_as, digest_of_literal(value))
    return found


def _digest_of_literal(value: ast.expr) -> str | None:
    try:
        return value_digest(ast.literal_eval(value))
    except (ValueError, TypeError, MemoryError, RecursionError):
        return None


def _values_by_name(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The expressions that a statement assigns to names as they are."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
        return
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    for target in targets:
        pairs: list[tuple[ast.expr, ast.expr]] = [(target, statement.value)]
        if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            pairs = list(zip(target.elts, statement.value.elts, strict=False))
        yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name))


def _change_in_notebook(
    stamp: Stamp, cell: Mapping[str, Any], assigned: Mapping[str, Assignment]
) -> tuple[str, str] | None:
    """Why an output is not that of the cells as the notebook has them; None when it is."""
    source = _source_of(cell)
    if stamp.code and stamp.code != code_digest(source):
        return EDITED, "the cell was edited and not run since"
    if not source.startswith((_CELL_MAGIC, "%%sql")):
        return None
    for name, digest in stamp.params.items():
        last = assigned.get(name)
        if last is None or last.digest == digest:
            continue
        if last.digest is not None or last.ran_as > (cell.get("execution_count") or 0):
            return STALE, f"${name} was assigned again in cell {last.cell}"
    return None


def _is_stamped_when_made(source: str) -> bool:
    """Whether a cell displays what has a stamp: rows of a statement, or of a line of `%jammi`."""
    if source.startswith(_CELL_MAGIC):
        return True
    words = source.strip().rpartition("\n")[2].split()
    return words[:1] == [_LINE_MAGIC] and not _STAMPED_LINES.isdisjoint(words[1:2])


def _shown_in_cell(
    file: Path, number: int, cell: Mapping[str, Any], assigned: Mapping[str, Assignment]
) -> Iterator[Shown]:
    source = _source_of(cell)
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        held = output.get("metadata", {}).get(STAMP_KEY)
        if _WIDGET_VIEW in data:  # the panel's static form, which follows it, has the stamp
            continue
        if held is not None or (_shows_rows(data) and _is_stamped_when_made(source)):
            stamp = stamp_from(held)
            changed = None if stamp is None else _change_in_notebook(stamp, cell, assigned)
            yield Shown(file, number, stamp, shown_digest(data), changed)


def _shows_rows(data: Mapping[str, Any]) -> bool:
    """Whether an output holds a table or a picture, also where a tool kept the text alone. The plan
    of a statement has rules in its text, and shows no rows."""
    html = "".join(data.get("text/html", ""))
    if html:
        return "<table" in html or "<img" in html
    return _RULE in "".join(data.get("text/plain", ""))


def shown_in_file(file: Path) -> Shown:
    """The stamp of a saved file. InvalidArgument."""
    try:
        return Shown(file, None, *read_stamp(file))
    except OSError as error:
        raise unreadable_text_error(file, error) from None


class Workspaces:
    """The workspaces that stamps name, opened read-only when they are needed. Nothing that a folder
    names is connected to."""

    def __init__(self, path: str | None, catalog: str | None) -> None:
        """`path`: the one to use; None looks for them beside and above each file."""
        self._path, self._catalog = path, catalog
        self._judges: dict[str, StampJudge] = {}
        self._found: dict[tuple[Path, str], list[StampJudge]] = {}
        """The nearest ones for a folder and an id. Several at one distance are copies of a folder,
        which have one id and may differ."""
        self._unusable: set[str] = set()
        self._search_again_at = 0.0

    @classmethod
    def with_judge(cls, judge: "StampJudge") -> "Workspaces":
        """The one workspace that is open already."""
        workspaces = cls(judge.path, None)
        workspaces._judges[judge.path] = judge
        return workspaces

    def __enter__(self) -> "Workspaces":
        return self

    def __exit__(self, *_: object) -> None:
        for path in [*self._judges]:
            self._judges.pop(path).close()

    def forget_observations(self) -> None:
        """Prepare for checking the same outputs again: the states of inputs are observed again, and
        workspaces whose files were removed or replaced are opened again."""
        for path, judge in [*self._judges.items()]:
            judge.forget_observation()
            if judge.files_replaced:
                self._judges.pop(path).close()
                self._found = {key: own for key, own in self._found.items() if judge not in own}
        if time.monotonic() > self._search_again_at:
            self._search_again_at = time.monotonic() + SEARCH_SECONDS
            self._unusable.clear()
            self._found = {key: own for key, own in self._found.items() if own}

    def check(self, shown: Iterable[Shown]) -> list[ShownTable]:
        """Check outputs, in their order, and name tables by their recipes as these are called now.
        JammiError when the named workspace cannot be opened."""
        outputs = [*shown]
        return [
            entry if judge is None else judge.with_recipe(entry, each.stamp)
            for each, judge, entries in zip(
                outputs, map(self.find, outputs), self.check_each(outputs), strict=True
            )
            for entry in entries
        ]

    def check_each(self, outputs: Sequence[Shown]) -> list[list[ShownTable]]:
        """The entries of each output. JammiError when the named workspace cannot be opened."""
        judges = [self.find(each) for each in outputs]
        for judge in {id(judge): judge for judge in judges if judge is not None}.values():
            judge.evaluate(
                each.stamp
                for each, own in zip(outputs, judges, strict=True)
                if own is judge and each.stamp is not None
            )
        return [
            list(self._entries(each, judge)) for each, judge in zip(outputs, judges, strict=True)
        ]

    def find(self, shown: Shown) -> "StampJudge | None":
        """The judge of the workspace that a stamp names; None when it is not found. JammiError when
        the named workspace cannot be opened."""
        if shown.stamp is None:
            return None
        if self._path is not None:
            return self._judge(self._path)
        key = (shown.file.parent, shown.stamp.workspace)
        if key not in self._found:
            self._found[key] = self._search(*key)
        found = self._found[key]
        return found[0] if len(found) == 1 else None

    def nearest(self, file: Path) -> "StampJudge":
        """The workspace beside or above a file that bears no stamp. WorkspaceNotFound,
        InvalidArgument when several are equally near; JammiError when it cannot be opened."""
        if self._path is not None:
            return self._judge(self._path)
        for candidates in filter(None, _candidate_folders(file.parent)):
            if len(candidates) == 1:
                return self._judge(candidates[0])
            # many are those of others, as in a folder for temporary files
            names = f": {', '.join(candidates)}" if len(candidates) <= _MAX_NAMED_WORKSPACES else ""
            raise InvalidArgument(
                f"{len(candidates)} workspaces are equally near to {str(file)!r}{names}.",
                hint="Choose one by --workspace PATH.",
            )
        raise WorkspaceNotFound(
            f"No workspace is next to {str(file)!r} or in a folder above.",
            hint="Pass --workspace PATH.",
        )

    def _search(self, folder: Path, workspace_id: str) -> "list[StampJudge]":
        """The nearest workspaces with that id; where none is near, those that this user created."""
        elsewhere = filter(_is_workspace, newest_folders(_MAX_ELSEWHERE))
        for candidates in (*_candidate_folders(folder), [*elsewhere]):
            judges = [self._try_judge(path) for path in candidates]
            matches = [each for each in judges if each and each.workspace_id == workspace_id]
            if matches:
                return matches
        return []

    def _why_not_found(self, folder: Path, workspace_id: str) -> str:
        copies = sorted(judge.path for judge in self._found.get((folder, workspace_id), ()))
        if copies:
            return (
                f"{len(copies)} copies of the workspace {workspace_id} are equally near "
                f"({', '.join(copies)}); choose one by --workspace PATH"
            )
        folders = (each for found in _candidate_folders(folder) for each in found)
        remote = next((each for each in folders if has_server_catalog(Path(each))), None)
        if remote is not None:
            return (
                f"the catalog of {remote} is on a server, and marks and check commands connect "
                "only to one that --catalog names"
            )
        return (
            f"the workspace {workspace_id} is neither near the file nor one of those that you "
            "created last: a fresh clone lacks it unless it is committed. Run the notebook again, "
            "restore a backup, or pass --workspace PATH"
        )

    def _try_judge(self, path: str) -> "StampJudge | None":
        if path in self._unusable:
            return None
        try:
            return self._judge(path)
        except JammiError:
            self._unusable.add(path)
            return None

    def _judge(self, path: str) -> "StampJudge":
        if path not in self._judges:
            from jammi_lab.workspace.opening import open_without_connecting

            ws = open_without_connecting(path, self._catalog)
            self._judges[path] = StampJudge(ws._services, ws.close)
        return self._judges[path]

    def _entries(self, shown: Shown, judge: "StampJudge | None") -> Iterator[ShownTable]:
        stamp = shown.stamp
        if stamp is None:
            yield _entry(shown, None, UNKNOWN, "it has no stamp")
            return
        parts: list[StampedTable | StampedSource | str] = [
            *stamp.tables,
            *stamp.sources,
            *stamp.unrecorded,
        ]
        is_as_computed = shown.digest == stamp.rows and shown.changed is None
        if is_as_computed and parts and parts == _parts_of_catalog(stamp):
            return  # a list of what was there then
        for part in parts or ["it reads no table"]:
            if shown.digest != stamp.rows:
                yield _entry(shown, part, EDITED, "the shown content is not the computed one")
            elif shown.changed is not None:
                yield _entry(shown, part, *shown.changed)
            elif isinstance(part, str) and parts:
                yield _entry(shown, part, UNKNOWN, f"the state of {part} was not recorded")
            elif isinstance(part, str):
                yield _entry(shown, None, FRESH, part)
            elif judge is None:
                reason = self._why_not_found(shown.file.parent, stamp.workspace)
                yield _entry(shown, part, UNKNOWN, reason)
            else:
                outcome, reason = judge.judge(stamp, part)
                if stamp.cell and outcome != FRESH:
                    reason = f"{reason}; made by {stamp.cell}"
                yield _entry(shown, part, outcome, reason)


def _parts_of_catalog(stamp: Stamp) -> list[str]:
    return [each for each in stamp.unrecorded if each.startswith(_OF_CATALOG)]


def _entry(
    shown: Shown, part: StampedTable | StampedSource | str | None, outcome: str, reason: str
) -> ShownTable:
    name = part if isinstance(part, str) or part is None else part.name
    version = part.version if isinstance(part, StampedTable) else None
    return ShownTable(str(shown.file), shown.cell, name, version, outcome, reason)


def _candidate_folders(folder: Path) -> Iterator[list[str]]:
    """The workspaces near a folder, nearest first: the folder itself, those in it, and the same for
    the folders above."""
    start = folder.resolve()
    for each in dict.fromkeys([start, *start.parents[:_MAX_PARENTS], Path.cwd()]):
        with contextlib.suppress(OSError):
            yield list(filter(_is_workspace, [str(each)]))
            with os.scandir(each) as entries:
                children = sorted(entry.path for entry in entries if entry.is_dir())
            yield list(filter(_is_workspace, children))


def _is_workspace(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in (CATALOG_FILE, ID_FILE))


class StampJudge:
    """Judges stamps in one workspace."""

    def __init__(self, services: "Services", close_workspace: Callable[[], None]) -> None:
        self._services, self._close_workspace = services, close_workspace
        self._file_identity = services.file_identity()
        self.workspace_id = services.catalog.metadata.workspace_id()
        self._verdicts: dict[tuple[str | None, str], Verdict | None] = {}
        self._builds: dict[tuple[str | None, str], str] = {}
        self._observation: Observation | None = None

    @property
    def path(self) -> str:
        """The folder of the workspace, absolute; its URL when it is remote."""
        folder = self._services.folder
        return str(folder.resolve()) if isinstance(folder, Path) else self._services.path

    @property
    def prose(self) -> "ProseChecker":
        """Compares numbers in texts with the tables."""
        return self._services.prose

    @property
    def files_replaced(self) -> bool:
        """Whether the workspace was removed or replaced since it was opened."""
        return self._services.file_identity() != self._file_identity

    def close(self) -> None:
        """Close the workspace."""
        with contextlib.suppress(JammiError, OSError):  # its files may be gone
            self._close_workspace()

    def forget_observation(self) -> None:
        """Observe the states of inputs again at the next check."""
        self._observation = None

    def summarize_board(self, tenant: str | None) -> dict[str, Any]:
        """What a board shows to a tenant: the number of recipes by verdict, the most severe first,
        and a digest of its rows. `{"counts", "state"}`."""
        with self._services.scope.use(tenant):
            status = self._services.freshness.status(deep=False)
        rows = [
            [row.name, row.version, marked_label(row.verdict), row.checks, *row.remarks]
            for row in status
        ]
        counts = count_by_label(row.verdict for row in status)
        return {"counts": counts, "state": short(digest_of(rows))}

    def verdict_word(self, stamp: Stamp, name: str) -> str:
        """The word of the verdict on a table of a stamp, as all surfaces show it."""
        verdict = self._verdicts.get((stamp.tenant, name))
        return STALE if verdict is None else marked_label(verdict)

    def with_recipe(self, entry: ShownTable, stamp: Stamp | None) -> ShownTable:
        """The entry of a table with the name that its recipe has now, where there is one."""
        if stamp is not None and entry.version is not None:
            with contextlib.suppress(JammiError), self._services.scope.use(stamp.tenant):
                name, _ = self._services.lookup.verdict_subject(entry.table)
                return replace(entry, table=name)
        return entry

    def evaluate(self, stamps: Iterable[Stamp]) -> None:
        """Evaluate the verdicts that the stamps need, in one pass for each tenant."""
        names: dict[str | None, set[str]] = {}
        for stamp in stamps:
            names.setdefault(stamp.tenant, set()).update(each.name for each in stamp.tables)
        for tenant, needed in names.items():
            # of a name that no tenant has, `judge` says so
            with contextlib.suppress(NameInvalid), self._services.scope.use(tenant):
                known = self._services.freshness.current_verdicts(sorted(needed))
                builds = self._services.freshness.builds()
                current = self._services.lookup.resolve_alias
                self._builds |= {(tenant, n): builds.get(fold(current(n)), "") for n in needed}
                self._verdicts |= {(tenant, name): known.get(name) for name in needed}

    def judge(self, stamp: Stamp, part: StampedTable | StampedSource) -> tuple[str, str]:
        """The outcome for one table or source of a stamp, and the reason."""
        timezone = str(self._services.settings["engine.timezone"])
        if stamp.timezone != timezone:
            return STALE, f"engine.timezone changed, {stamp.timezone} → {timezone}"
        try:
            with self._services.scope.use(stamp.tenant):
                if isinstance(part, StampedTable):
                    outcome, reason = self._judge_table(stamp, part)
                    builder = self._builds.get((stamp.tenant, part.name))
                    is_computed = builder and outcome in (STALE, OUTDATED)
                    return outcome, f"{reason}; {builder} computes it" if is_computed else reason
                return self._judge_source(part)
        except JammiError as error:
            return UNKNOWN, error.message.rstrip(".")

    def _judge_table(self, stamp: Stamp, table: StampedTable) -> tuple[str, str]:
        current = self._services.lookup.resolve_alias(table.name)
        newest = self._services.catalog.result_tables.newest(current)
        if newest is None:
            return self._judge_exact(stamp, table)
        return self._judge_newest(stamp, table, *newest)

    def _judge_newest(
        self, stamp: Stamp, table: StampedTable, version: "VersionRecord", record: "TableRecord"
    ) -> tuple[str, str]:
        """Compare with the newest version of the recipe. Equal bytes are the same rows, whichever
        version, and whichever workspace, they come from."""
        same_workspace = stamp.workspace == self.workspace_id
        same_rows = (
            short(record.digest) == table.digest
            if table.digest
            else same_workspace and version.version == table.version
        )
        if same_rows:
            return _outcome_of(self._verdicts.get((stamp.tenant, table.name)))
        if not same_workspace:
            return UNKNOWN, f"another workspace made it; {self.workspace_id} has other rows"
        if version.version > table.version:
            return OUTDATED, f"version {version.version} is ready"
        return OUTDATED, f"the newest version, {version.version}, has other rows"

    def _judge_exact(self, stamp: Stamp, table: StampedTable) -> tuple[str, str]:
        """A table that was requested by its physical name, which no newer version replaces."""
        record = self._services.catalog.result_tables.get(table.name)
        if record is None or record.status is not TableStatus.READY:
            if stamp.workspace != self.workspace_id:
                return UNKNOWN, f"the workspace {self.workspace_id} has no table of that name"
            return STALE, "it was dropped"
        if short(record.digest) != table.digest:
            return UNKNOWN, "the table of that name has other rows"
        match = self._services.lookup.find(table.name)
        recipe = self._services.lookup.current_name(match.version).recipe
        return _outcome_of(self._services.freshness.staleness(recipe, record))

    def _judge_source(self, source: StampedSource) -> tuple[str, str]:
        if input_kind(source.kind).has_origin:
            return UNKNOWN, "a frame exists only in its kernel"
        self._check_path(source.name)
        if self._observation is None:
            self._observation = self._services.observe(False)
        columns = tuple(source.columns)
        wanted = Input(kind=source.kind, name=source.name, table=source.table, columns=columns)
        match self._observation.observe(wanted, self._services.scope.current):
            case Snapshot() as state:
                if short(state.anchor(wanted, columns).value) == source.anchor:
                    return FRESH, ""
                method = "" if compares_content(state.method) else f" ({state.method})"
                return STALE, f"{wanted.label} changed{method}"
            case Vanished():
                return STALE, f"{wanted.label} is gone"
            case Unknown(why):
                return UNKNOWN, why

    def _check_path(self, name: str) -> None:
        """Raise SourceUnavailable for files outside the project that the stamp alone names: a
        notebook may be a stranger's, and the answer would tell what is in them. The stamps that a
        kernel has are its own."""
        directory, path = self._services.source_directory, record_of(name)
        if path is not None and not directory.outside.connects:
            links = self._services.catalog.lineage.closure(name, "down", 1)
            if name not in [link.input.name for link in links]:
                clause = "no table of the workspace reads it"
                directory.outside.check_inside(directory.paths.locate(path), clause)


def _outcome_of(verdict: Verdict | None) -> tuple[str, str]:
    if verdict is None:
        return UNKNOWN, "its verdict could not be evaluated"
    if isinstance(verdict, Fresh):
        return FRESH, ", ".join(verdict.grounds)
    reasons = "; ".join(reasons_of(verdict)) or str(verdict)
    return STALE if causes_of(verdict) else UNKNOWN, reasons


def to_junit(entries: Iterable[ShownTable], failing: Collection[str] = FAILING_OUTCOMES) -> str:
    """One test case for each shown table: a failure for one with a failing outcome, skipped for any
    other that is unknown."""
    return junit.to_junit("jammi-lab outputs", [_junit_case(row, failing) for row in entries])


def _junit_case(row: ShownTable, failing: Collection[str]) -> Case:
    name = row.table or "output"
    name = name if row.cell is None else f"cell {row.cell}: {name}"
    if row.outcome == FRESH:
        return Case(row.file, name)
    problem = "failure" if row.outcome in failing else "skipped"
    return Case(
        row.file, name, problem=problem, type=row.outcome, message=row.reason or row.outcome
    )
