"""Writes the parts of the pages that come from the code: `python docs/generate.py`, or `--check` to
fail when a page is behind.

A part stands between `<!-- generated: WHAT … -->` and `<!-- end -->`; what is outside is written by
hand and stays as it is.
"""

import ast
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
WIDTH = 120
SIGNATURE_WIDTH = 88  # what the site shows without scrolling
_PART = re.compile(r"(<!-- generated: ([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)

HOMES = {
    "Workspace": "jammi_lab/workspace/workspace.py",
    "Recording": "jammi_lab/workspace/search_recordings.py",
    "jl": "jammi_lab/workspace/opening.py",
    "Sources": "jammi_lab/workspace/sources.py",
    "Source": "jammi_lab/workspace/sources.py",
    "Column": "jammi_lab/workspace/sources.py",
    "Result": "jammi_lab/workspace/result.py",
    "ResultTable": "jammi_lab/workspace/result_table.py",
    "Recipes": "jammi_lab/workspace/recipes.py",
    "Recipe": "jammi_lab/workspace/recipes.py",
    "Checks": "jammi_lab/features/checks/checks.py",
    "Check": "jammi_lab/features/checks/checks.py",
    "CheckResults": "jammi_lab/features/checks/results.py",
    "CheckRow": "jammi_lab/features/checks/results.py",
    "CheckResult": "jammi_lab/core/checks.py",
    "FsckReport": "jammi_lab/store/reports.py",
    "RebuildReport": "jammi_lab/store/reports.py",
    "Diff": "jammi_lab/workspace/diff.py",
    "Status": "jammi_lab/freshness/reports.py",
    "StatusRow": "jammi_lab/freshness/reports.py",
    "Plan": "jammi_lab/freshness/reports.py",
    "RunReport": "jammi_lab/freshness/reports.py",
    "Lineage": "jammi_lab/features/pictures/lineage.py",
    "Why": "jammi_lab/freshness/explain.py",
    "Node": "jammi_lab/freshness/lineage.py",
    "ColumnEdge": "jammi_lab/freshness/table_column_lineage.py",
    "Settings": "jammi_lab/core/settings.py",
    "Embedding": "jammi_lab/features/vectors/embedding.py",
    "Lexical": "jammi_lab/features/words/lexical.py",
    "RowMap": "jammi_lab/features/rows/row_map.py",
    "NeighborGraph": "jammi_lab/features/vectors/neighbor_graph.py",
    "Propagation": "jammi_lab/features/vectors/propagation.py",
    "ContextSet": "jammi_lab/features/vectors/context_set.py",
    "Projection": "jammi_lab/features/vectors/projection.py",
    "Sql": "jammi_lab/steps/sql.py",
    "PythonStep": "jammi_lab/steps/python.py",
    "AsofJoin": "jammi_lab/features/asof/asof_join.py",
    "Models": "jammi_lab/features/vectors/models.py",
    "Model": "jammi_lab/features/vectors/models.py",
    "Reference": "jammi_lab/core/model_records.py",
    "Training": "jammi_lab/core/model_records.py",
    "Evaluation": "jammi_lab/core/model_records.py",
    "Metrics": "jammi_lab/workspace/retrieval_evaluation.py",
    "Neighbors": "jammi_lab/workspace/vector_views.py",
    "VectorMap": "jammi_lab/workspace/vector_views.py",
    "Explanation": "jammi_lab/workspace/query_plan.py",
    "Reuse": "jammi_lab/core/records.py",
    "MutableTables": "jammi_lab/features/live/mutable_handles.py",
    "MutableTable": "jammi_lab/features/live/mutable_handles.py",
    "Topics": "jammi_lab/features/live/topics.py",
    "Topic": "jammi_lab/features/live/topics.py",
    "ValueLocation": "jammi_lab/features/prose/value_search.py",
    "Event": "jammi_lab/features/live/subscriptions.py",
    "EphemeralSession": "jammi_lab/features/live/session_handle.py",
    "CallEstimate": "jammi_lab/core/records.py",
    "Step": "jammi_lab/core/records.py",
    "RunStep": "jammi_lab/core/records.py",
    "Edge": "jammi_lab/core/records.py",
    "Progress": "jammi_lab/core/records.py",
    "RecoveryReport": "jammi_lab/store/reports.py",
    "Input": "jammi_lab/core/anchors.py",
    "Anchor": "jammi_lab/core/anchors.py",
    "Manifest": "jammi_lab/core/manifest.py",
    "Artifact": "jammi_lab/core/manifest.py",
    "Leaf": "jammi_lab/core/manifest.py",
    **dict.fromkeys(
        "Fresh PossiblyStale Stale Undecidable MissingManifest Damaged DefinitionChanged "
        "InputAdvanced InputVanished Cause"
        " Match Mismatch MatchWithUnpinnedInputs MissingBytes".split(),
        "jammi_lab/core/verdicts.py",
    ),
}
"""Where the classes of the pages live."""

SAID: dict[str, dict[str, str]] = {
    "Recording": {"name": "its name"},
    "CheckResult": {
        "tenant": "the owner of the check; None is shared",
        "severity": "block or warn",
        "outcome": "pass, fail or error",
        "seconds": "how long its statement ran",
    },
    "Metrics": {
        "table": "the table that was searched",
        "k": "number of hits that count",
        "mode": "the kind of search: meaning, words or both",
    },
    "Neighbors": {
        "table": "the table that was searched",
        "key": "the key of the row",
        "hits": "key, rank, similarity, and the selected columns",
    },
    "VectorMap": {
        "table": "the embedding table",
        "keys": "the keys of the rows, in ascending order",
        "points": "(rows, 2) float32, in the order of `keys`",
        "shares": "the share of the variance along each axis; 0 for a stored map",
        "projection": "the table that stores the points; None for a map that is not stored",
    },
    "Result": {"limit": "how many rows its form shows; the Result itself is whole"},
    "ResultTable": {"outcome": "`computed` or `reused`, when a call has just given it"},
    "Lineage": {
        "nodes": "the things in it, parents before children",
        "edges": "what derives from what",
        "column_edges": "which column depends on which; empty unless columns were requested",
    },
    "Why": {
        "name": "the recipe, with the version when an older one was asked about",
        "verdict": "the verdict",
    },
    "RunReport": {
        "steps": "each step as it went",
        "deviations": "what moved meanwhile, as sentences",
    },
    "Workspace": {
        "path": "the folder, as it was given",
        "settings": "its settings",
        "recovery": "what opening it settled",
        "sources": "its sources",
        "mutable": "its mutable tables",
        "topics": "its topics",
    },
    "StatusRow": {
        "name": "the recipe",
        "verdict": "its verdict",
        "rows": "rows of that version",
        "bytes": "size of its file",
    },
    "Step": {"name": "the recipe"},
    "RunStep": {
        "name": "the recipe",
        "seconds": "how long it took",
        "rows": "rows of the table",
        "table_name": "its physical name",
        "error": "why it was not computed",
    },
    "Edge": {
        "input": "the input",
        "derived": "the table derived from it",
        "kind": "how the state of the input is identified",
    },
    "RecoveryReport": {
        "promoted": "complete tables of a dead kernel, now ready",
        "failed": "unfinished tables of a dead kernel, removed",
        "healed": "tables whose lost manifest or index was restored",
        "quarantined": "tables whose bytes no manifest attests, moved to quarantine",
        "reaped": "removals of a dead kernel, completed",
        "spared": "tables that a live kernel is building or removing",
        "missing": "ready tables whose file is missing",
    },
}
"""What the code says of an attribute only by its name."""

TYPES = {
    "Metrics.table": "ResultTable",
    "Metrics.k": "int",
    "Metrics.mode": "str",
    "Metrics.recall": "float",
    "Metrics.precision": "float",
    "Metrics.mrr": "float",
    "Metrics.ndcg": "float",
    "Metrics.skipped": "int",
    "Metrics.own": "int",
    "Metrics.recorded": "Evaluation | None",
    "Neighbors.table": "str",
    "Neighbors.key": "Any",
    "Neighbors.hits": "Result",
    "VectorMap.table": "str",
    "VectorMap.keys": "pa.Array",
    "VectorMap.points": "NDArray[np.float32]",
    "VectorMap.shares": "tuple[float, float]",
    "VectorMap.projection": "ResultTable | None",
    "VectorMap.version": "int | None",
    "Recording.name": "str",
    "Plan.checks": "list[Step]",
    "Workspace.path": "str",
    "Workspace.settings": "Settings",
    "Workspace.sources": "Sources",
    "Workspace.mutable": "MutableTables",
    "Workspace.topics": "Topics",
    "Workspace.recovery": "RecoveryReport",
    "Result.inputs": "list[Input]",
    "Result.limit": "int",
    "Recipe.newest_version": "int | None",
    "ResultTable.outcome": "str",
    "Plan.left_out": "list[str]",
    "Diff.title": "str",
    "Diff.added": "pa.Table",
    "Diff.removed": "pa.Table",
    "Diff.changed": "pa.Table",
    "Diff.before": "pa.Table",
    "RunReport.steps": "list[RunStep]",
    "RunReport.deviations": "list[str]",
    "Lineage.nodes": "list[Node]",
    "Lineage.edges": "list[Edge]",
    "Lineage.column_edges": "list[ColumnEdge]",
    "Why.name": "str",
    "Why.verdict": "Verdict",
}
"""Types that the code leaves to be inferred."""

SETTINGS = {
    "catalog.url": "The PostgreSQL database that holds the catalog, as "
    "`postgresql+psycopg://user@host/database`; empty: a file of the folder.",
    "engine.threads": "Threads of a statement; 0: as many as there are cores.",
    "engine.memory_limit": "Memory of all statements together, as `4GB`, at most what the machine "
    "has; empty: engine default, 80 % of it.",
    "engine.temp_quota": "Disk space for what does not fit into memory, as `20GB`; empty: engine "
    "default.",
    "engine.float_sums": "How `sum`, `avg`, `min` and `max` over floating-point numbers are "
    "computed in the statements of tables: `reproducible`, the same in any order and on any number "
    "of threads, or `fast`, DuckDB's own. Part of every SQL definition.",
    "engine.timezone": "The zone of timestamps with time zone and of `current_date`. Part of every "
    "SQL definition.",
    "vectors.exact_max_rows": "Largest table, in rows, that is searched by reading all vectors, "
    "which is as fast as an index at that size.",
    "vectors.connectivity": "Edges of a vector in the graph of an index.",
    "vectors.build_expansion": "Number of candidates that are considered when a vector is added to "
    "an index; doubled above 200 000 rows.",
    "vectors.search_expansion": "Number of candidates that a search of an index considers; 0: the "
    "number that was measured when the index was built.",
    "vectors.oversample": "Candidates per hit that an index returns for exact comparison.",
    "look.timeout_seconds": "Inputs that do not respond in this time are reported as undecidable.",
    "look.racy_seconds": "A file that changed less than this before it was observed is hashed "
    "again at the next observation, even if its size and times are equal.",
    "look.scan_rows": "Largest input, in rows, that a badge or `status()` reads where the number "
    "is known beforehand: tables of servers and database files, comparisons of rows.",
    "look.scan_bytes": "Largest input, in stored bytes, that a badge or `status()` reads; a "
    "larger one is undecidable there. Deep checks have no limit.",
    "mutable.versions_kept": "Past versions that `changes(since)` of a mutable table covers "
    "at least.",
    "mutable.memory_bytes": "Memory for rows of mutable tables that are cached between "
    "statements; rows that do not fit are read again.",
    "flight.wait_seconds": "How long to wait for another kernel that computes the same table "
    "before computing it here as well.",
    "recompute.cutoff": "Whether what reads a table is computed again when the table came out "
    "equal but for rounding: `rounding`, no, which is a ground of the verdict; `bytes`, yes.",
    "recompute.incremental": "`auto`: a statement over an input that only gained rows (a "
    "folder, a lakehouse table) is computed over the new "
    "ones where that gives the same bytes; `never`: always in full.",
    "cells.traceback": "`short`: an error in a cell is at most five lines, and `%tb` shows the "
    "stack; `full`: the stack at once.",
    "cells.limit": "Number of rows shown below a cell.",
    "cells.badge": "`auto`: in an interactive front end a late badge is filled in afterwards; "
    "`wait`: a result waits for its badge.",
}


# -- reading the code
# --------------------------------------------------------------------------------------------------


@functools.cache
def _module(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@functools.cache
def _class(name: str) -> ast.ClassDef:
    return next(
        node
        for node in ast.walk(_module(HOMES[name]))
        if isinstance(node, ast.ClassDef) and node.name == name
    )


def members(name: str) -> dict[str, ast.AST]:
    """The public methods and attributes of a class, in the order of the code; of `jl` the functions
    of the package."""
    if name == "jl":
        tops = [
            *_module("jammi_lab/workspace/opening.py").body,
            *_module("jammi_lab/__init__.py").body,
        ]
        return {
            n.name: n
            for n in tops
            if isinstance(n, ast.FunctionDef) and n.name in ("open", "get_workspace")
        }
    found: dict[str, ast.AST] = {}
    protocol: set[str] = set()  # what only recipes of one's own need
    for base in _bases(_class(name)):
        found |= _own(base)
        if base.name in ("RecipeValue", "RunnableRecipe", "FunctionRecipe", "RowRecipe"):
            protocol = {*found} - {"to_dict"}
    found |= _own(_class(name))
    return {member: node for member, node in found.items() if member not in protocol}


def _bases(node: ast.ClassDef) -> list[ast.ClassDef]:
    """The classes of the top that a class is built on; protocols only repeat what it has."""
    names = [b.id for b in node.bases if isinstance(b, ast.Name)]
    homes = (
        "workspace/*.py",
        "features/search/search.py",
        "steps/recipe.py",
        "steps/step_functions.py",
        "steps/row_recipe.py",
        "core/recipes.py",
        "core/html.py",
        "core/dataframes.py",
    )
    files = [file for pattern in homes for file in sorted((ROOT / "jammi_lab").glob(pattern))]
    tops = [
        c
        for file in files
        for c in _module(str(file.relative_to(ROOT))).body
        if isinstance(c, ast.ClassDef)
    ]
    found = [
        c
        for c in tops
        if c.name in names
        and not any(isinstance(b, ast.Name) and b.id == "Protocol" for b in c.bases)
    ]
    return [each for c in found for each in (*_bases(c), c)]


def _own(described: ast.ClassDef) -> dict[str, ast.AST]:
    found: dict[str, ast.AST] = {}
    for node in described.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            found.update(_assigned(node))
        elif isinstance(node, ast.FunctionDef) and (
            not node.name.startswith("_") or node.name in DUNDERS
        ):
            found.setdefault(node.name, node)  # a setter follows its property
        elif (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and not node.target.id.startswith("_")
        ):
            found[node.target.id] = node
    return found


DUNDERS = {"__getitem__": "[…]", "__contains__": "in", "__iter__": "iter", "__len__": "len"}
"""What people write for the methods that Python calls for them."""


def _assigned(init: ast.FunctionDef) -> Iterator[tuple[str, ast.AST]]:
    for statement in ast.walk(init):
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else []
        )
        for target in targets:
            for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                if (
                    isinstance(each, ast.Attribute)
                    and isinstance(each.value, ast.Name)
                    and not each.attr.startswith("_")
                ):
                    yield each.attr, statement


def _told(owner: str, name: str, node: ast.AST) -> str:
    """What the code says of a member: its docstring, or the string under it; of one that shares its
    line with others, what is written here."""
    if name in SAID.get(owner, {}) and not isinstance(node, ast.FunctionDef):
        return SAID[owner][name]
    if isinstance(node, ast.FunctionDef) and (said := ast.get_docstring(node)):
        return said
    for body in (
        n.body for n in ast.walk(_class(owner)) if isinstance(n, ast.ClassDef | ast.FunctionDef)
    ):
        for at, statement in enumerate(body[:-1]):
            under = body[at + 1]
            if (
                statement is node
                and isinstance(under, ast.Expr)
                and isinstance(under.value, ast.Constant)
            ):
                return str(under.value.value)
    return ""


def signature(node: ast.FunctionDef) -> str:
    """How a function is called, with types, wrapped between its arguments."""
    pieces = _arguments(node.args)
    last = f") -> {_type_text(node.returns)}" if node.returns else ")"
    lines, line = [], f"{node.name}("
    for at, piece in enumerate(pieces):
        said = piece + ("," if at + 1 < len(pieces) else last)
        if len(line) + len(said) > SIGNATURE_WIDTH and line.strip():
            lines.append(line.rstrip())
            line = " " * (len(node.name) + 1)
        line += said + " "
    return "\n".join([*lines, (line if pieces else line + last).rstrip()])


def _arguments(given: ast.arguments) -> list[str]:
    """Each argument as it is written, `*` among them, without `self`."""
    placed = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(placed) - len(given.defaults)) + list(given.defaults)
    said = [
        _argument(arg, default)
        for arg, default in zip(placed, defaults, strict=True)
        if arg.arg != "self"
    ]
    said += ["*"] if given.kwonlyargs else []
    said += [
        _argument(arg, default)
        for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    return said + ([f"**{_argument(given.kwarg, None)}"] if given.kwarg else [])


def _argument(arg: ast.arg, default: ast.expr | None) -> str:
    kind = f": {_type_text(arg.annotation)}" if arg.annotation else ""
    return f"{arg.arg}{kind}" + (f" = {ast.unparse(default)}".replace("'", '"') if default else "")


def _type_text(node: ast.expr) -> str:
    """A type as people write it; one that stands in quotation marks for the code's own reasons
    loses them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    text = ast.unparse(node).replace("'", '"')
    if text == "Table":  # an input of a recipe
        text = "str | ResultTable"
    return re.sub(r'"((?:pa|pl|pd)\.\w+|[A-Z]\w*)"', r"\1", text)


def is_attribute(node: ast.AST) -> bool:
    """Whether a member is read, not called."""
    return not isinstance(node, ast.FunctionDef) or any(
        isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list
    )


# -- the parts
# --------------------------------------------------------------------------------------------------


def part_members(owner: str, *names: str) -> str:
    """Methods, each below a heading with its signature and what it gives, then attributes in a
    table."""
    every = members(owner)
    chosen = {name: every[name] for name in names} if names else every
    methods = [
        node
        for node in chosen.values()
        if isinstance(node, ast.FunctionDef) and not is_attribute(node) and node.name not in DUNDERS
    ]
    said = [
        f"### {node.name}\n\n```text\n{signature(node)}\n```\n\n"
        f"{_paragraphs(_told(owner, node.name, node))}"
        for node in methods
    ]
    attributes = [(name, node) for name, node in chosen.items() if is_attribute(node)]
    if attributes:
        rows = [
            f"| `{name}` | {_type(owner, name, node)} | {_line(_told(owner, name, node))} |"
            for name, node in attributes
        ]
        said.append("\n".join(["| attribute | type | what it is |", "|---|---|---|", *rows]))
    return "\n\n".join(said)


def _type(owner: str, name: str, node: ast.AST) -> str:
    kind = (
        node.returns
        if isinstance(node, ast.FunctionDef)
        else node.annotation
        if isinstance(node, ast.AnnAssign)
        else None
    )
    text = _type_text(kind) if kind is not None else TYPES.get(f"{owner}.{name}", "")
    return f"`{_cell(text)}`" if text else ""


def _line(text: str) -> str:
    said = " ".join(text.split()).replace("|", r"\|")
    return (
        said[:1].lower() + said[1:].removesuffix(".")
        if not re.match(r"[A-Z]{2}", said)
        else said.removesuffix(".")
    )


def _paragraphs(text: str) -> str:
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(
        "\n".join(textwrap.wrap(part, WIDTH, break_long_words=False, break_on_hyphens=False))
        for part in parts
    )


def part_classes(*names: str) -> str:
    """Classes with the first sentence of each, and its place in the pages of `python/`."""
    rows = ["| class | what it is |", "|---|---|"]
    for name in names:
        page = next(page for page in sorted((DOCS / "python").glob("*.md")) if _is_on(name, page))
        anchor = f"#{name.lower()}" if f"\n## {name}\n" in page.read_text("utf-8") else ""
        sentence = " ".join((ast.get_docstring(_class(name)) or "").split()).split(". ")[0]
        rows.append(f"| [{name}](python/{page.name}{anchor}) | {_cell(sentence.rstrip('.'))} |")
    return "\n".join(rows)


def _is_on(name: str, page: Path) -> bool:
    text = page.read_text(encoding="utf-8")
    return re.search(rf"<!-- generated: (members {name}|values [^>]*\b{name})\b", text) is not None


def part_values(*names: str) -> str:
    """Values with their fields: class, docstring, fields."""
    rows = ["| value | meaning | fields |", "|---|---|---|"]
    for name in names:
        fields = [
            f"`{field}`: {_line(_told(name, field, node))}" for field, node in members(name).items()
        ]
        meaning = " ".join((ast.get_docstring(_class(name)) or "").split())
        rows.append(f"| `jl.{name}` | {meaning} | {'<br>'.join(fields)} |")
    return "\n".join(rows)


def part_keys(name: str) -> str:
    """The fields of a stored value, one a line."""
    return "\n".join(
        [
            "| key | what it is |",
            "|---|---|",
            *(f"| `{k}` | {_line(_told(name, k, node))} |" for k, node in members(name).items()),
        ]
    )


def part_lines() -> str:
    """All `%jammi` lines, by what they are for."""
    from jammi_lab.commands.table import LINE, OWN_COMMANDS

    chapters: dict[str, list[str]] = {}
    for verb in OWN_COMMANDS:
        if verb.magic == LINE:
            row = f"| `{_cell(verb.usage)}` | {verb.help} |"
            chapters.setdefault(verb.chapter, []).append(row)
    return "\n\n".join(
        "\n".join([f"**{chapter}**", "", "| line | does |", "|---|---|", *rows])
        for chapter, rows in chapters.items()
    )


def part_flags() -> str:
    """The flags of each command of a cell, the cell magics with their usage."""
    from jammi_lab.commands.table import CELL, LINE, OWN_COMMANDS, STEP

    lines = [command for command in OWN_COMMANDS if command.magic == LINE and command.flags]
    parts = []
    for command in (CELL, STEP, *lines):
        rows = []
        for flag in command.flags:
            takes = "|".join(flag.choices) or flag.value_name
            suffix = (f" {takes}" if takes else "") + (" …" if flag.repeated else "")
            rows.append(f"| `{_cell(', '.join(flag.spellings) + suffix)}` | {flag.help} |")
        told = f"**`{command.magic} {command.name}`**"
        if command in (CELL, STEP):
            usage = "\n".join(
                textwrap.wrap(
                    command.usage, WIDTH, subsequent_indent=" " * 8, break_on_hyphens=False
                )
            )
            told = f"**`{command.magic}`**: {command.help}\n\n```text\n{usage}\n```"
        parts.append("\n".join([told, "", "| flag | does |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def part_error(*names: str) -> str:
    """What an error says of itself: when it is raised, what else it is, what it carries."""
    from jammi_lab.core import errors

    said = []
    for name in names:
        cls = getattr(errors, name)
        also = [b.__name__ for b in cls.__mro__ if b in (KeyError, ValueError)]
        of = [
            b.__name__
            for b in cls.__bases__
            if b is not errors.JammiError and issubclass(b, errors.JammiError)
        ]
        carries = inspect.get_annotations(cls)
        facts = (
            [f"Is also a {' and a '.join(f'`{each}`' for each in [*of, *also])}."]
            if of or also
            else []
        ) + ([f"Carries {', '.join(f'`{c}`' for c in carries)}."] if carries else [])
        told = " ".join([inspect.getdoc(cls), *facts])
        said.append(f"- `{name}`: {told}" if len(names) > 1 else told)
    return "\n".join(said)


def part_tree() -> str:
    """The tree of errors as the code draws it."""
    from jammi_lab.core import errors

    drawn = re.search(
        r"^    JammiError\n.*?(?=\n\n)", errors.__doc__ or "", re.MULTILINE | re.DOTALL
    )
    return f"```text\n{textwrap.dedent(drawn[0] if drawn else '')}\n```"


def part_settings() -> str:
    """Every setting with its default, its variable of the environment, and what it means."""
    from jammi_lab.core.settings import DEFAULTS

    rows = ["| setting | default | in the environment | meaning |", "|---|---|---|---|"]
    for key, default in DEFAULTS.items():
        shown = (
            f"`{default:_}`".replace("_", " ")
            if isinstance(default, int)
            else f"`{default}`"
            if default != ""
            else "empty"
        )
        rows.append(
            f"| `{key}` | {shown} | `JAMMI_{key.upper().replace('.', '__')}` | {SETTINGS[key]} |"
        )
    return "\n".join(rows)


PARTS: dict[str, Callable[..., str]] = {
    "members": part_members,
    "classes": part_classes,
    "values": part_values,
    "keys": part_keys,
    "lines": part_lines,
    "flags": part_flags,
    "error": part_error,
    "errors": part_error,
    "tree": part_tree,
    "settings": part_settings,
}


def written(text: str) -> str:
    """A page with its generated parts as they are to be."""

    def part(match: re.Match[str]) -> str:
        what, *words = match[2].split()
        return f"{match[1]}\n{PARTS[what](*words)}\n\n{match[3]}"

    return _PART.sub(part, text)


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` only say which are behind."""
    sys.path[:0] = [str(ROOT), str(ROOT / "kernel_ext")]
    behind = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            behind.append(page)
            if "--check" not in arguments:
                page.write_text(new, encoding="utf-8")
    for page in behind:
        sys.stdout.write(
            f"{page.relative_to(ROOT)} "
            f"{'is behind the code' if '--check' in arguments else 'written'}\n"
        )
    return int(bool(behind) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
