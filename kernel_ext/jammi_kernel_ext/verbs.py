"""The verbs of `%jammi`: parsing, help and suggestions are derived from them."""

from typing import Any

from jammi_kernel_ext.arguments import (
    HELP_FLAGS,
    Argument,
    Verb,
    flag,
    non_negative_integer,
    number,
    option_pair,
    parse_words,
    positive_integer,
    split_words,
    wants_help,
)
from jammi_kernel_ext.hints import unknown_verb_error

_NAME, _NAMES = Argument("NAME"), Argument("NAME", required=False, repeated=True)
_OPTIONAL_NAME = Argument("NAME", required=False)

VERBS: tuple[Verb, ...] = (
    Verb("", "Show the open workspace and its contents."),
    Verb(
        "open",
        "Open a workspace folder (created if missing) instead of ./.jammi.",
        (Argument("PATH", required=False),),
        (
            flag("--catalog URL", "the URL of the PostgreSQL database that stores its catalog"),
            flag("--read-only", "open it read-only"),
            flag("--tenant NAME", "bind this tenant"),
        ),
    ),
    Verb("close", "Close the workspace; the next command opens ./.jammi."),
    Verb(
        "help",
        "List all commands; with a word, explain that command or flag.",
        (Argument("WORD", required=False, allows_dash=True),),
    ),
    Verb(
        "config",
        "Show all settings, show one, or set one.",
        (Argument("KEY", required=False), Argument("VALUE", required=False)),
    ),
    Verb(
        "add",
        "Register a source under a name for SQL: files (local, object store, http), a database or "
        "a lakehouse table.",
        (_NAME, Argument("LOCATION")),
        (
            flag("--kind KIND", "the kind of source, if the location does not show it"),
            flag("--anchor ANCHOR", "how changes are detected: auto, content, column:NAME or none"),
            flag("--secret NAME", "the environment variable that contains its credential"),
            flag("--option KEY=VALUE …", "options for this kind of source", convert=option_pair),
            flag(
                "--tenant-column COLUMN",
                "the column with each row's tenant: tenants see their own rows and those without a "
                "tenant",
            ),
            flag("--replace", "replace the source of that name"),
        ),
    ),
    Verb(
        "remove",
        "Remove a source; tables computed from it stay.",
        (_NAME,),
        (flag("--tables", "also remove the tables that read it"),),
    ),
    Verb("catalog", "Browse sources, tables and models, down to their columns."),
    Verb("sources", "List the registered sources."),
    Verb(
        "tables",
        "List the result tables, newest first.",
        (),
        (flag("--all", "include failed and unfinished tables"),),
    ),
    Verb(
        "models",
        "List the registered models and the built-in encoders, and whether they can run here.",
    ),
    Verb("schema", "Show the columns of a source or result table and their types.", (_NAME,)),
    Verb(
        "preview",
        "Show the first rows of a source or result table.",
        (_NAME,),
        (flag("-n|--limit N", "number of rows", convert=positive_integer),),
    ),
    Verb(
        "view",
        "Browse the rows of a result, source or table in a panel; without a name, of the last "
        "result.",
        (_OPTIONAL_NAME,),
    ),
    Verb(
        "embed",
        "Embed the texts of a source or table as vectors; a second run encodes only new and "
        "changed texts.",
        (_NAME, Argument("SOURCE")),
        (
            flag("--key K !", "the column that identifies a row"),
            flag("--text C … !", "the columns whose texts are joined and encoded"),
            flag("--model M", "the encoder (minilm)"),
            flag("--where SQL", "encode only rows that satisfy this condition"),
            flag("--bypass", "encode all texts again"),
        ),
    ),
    Verb(
        "lexical",
        "Index the words of the texts of a source or table; a second run analyses only new and "
        "changed texts.",
        (_NAME, Argument("SOURCE")),
        (
            flag("--key K !", "the column that identifies a row"),
            flag("--text C … !", "the columns whose texts are joined"),
            flag("--analyzer english|simple|exact", "what counts as a word (english)"),
            flag("--where SQL", "index only rows that satisfy this condition"),
            flag("--bypass", "analyse all texts again"),
        ),
    ),
    Verb(
        "search",
        "Find the rows that match a text best: by meaning in an embedding table, by words in a "
        "lexical table, or by both.",
        (Argument("TABLE"), Argument("TEXT", repeated=True)),
        (
            flag("-k K", "number of hits (10)", convert=non_negative_integer),
            flag("--words TABLE", "a lexical table of the same keys to search, too"),
            flag("--where SQL", "a condition on the source's rows"),
            flag("--select C …", "columns of the source to show"),
        ),
    ),
    Verb(
        "graph",
        "Compute a neighbour graph: for each row of an embedding table, the rows most similar to "
        "it.",
        (_NAME, Argument("TABLE")),
        (
            flag("-k K", "neighbours per row (10)", convert=non_negative_integer),
            flag("--min-similarity S", "omit pairs less similar than this", convert=number),
            flag("--mutual", "keep only pairs in which each row is among the other's nearest"),
            flag("--bypass", "compute again even if the same result exists"),
        ),
    ),
    Verb(
        "neighbors",
        "Find the rows most similar to one row of an embedding table; without a key, to its first "
        "row.",
        (Argument("TABLE"), Argument("KEY", required=False)),
        (
            flag("-k K", "number of rows (10)", convert=non_negative_integer),
            flag("--select C …", "columns of the source to show"),
        ),
    ),
    Verb(
        "map",
        "Draw an embedding table as a 2-D map: similar rows lie near each other.",
        (Argument("TABLE"),),
        (
            flag(
                "--method pca|tsne",
                "compute the map with this method and store it as the table TABLE_pca or "
                "TABLE_tsne",
            ),
        ),
    ),
    Verb(
        "status",
        "Show the verdict of every recipe and its reasons.",
        (),
        (flag("--deep", "check without limits: also scan large inputs"),),
    ),
    Verb("stale", "Show only the recipes that are not fresh."),
    Verb(
        "why",
        "Explain the verdict on one table as a tree: a line for each cause, with old and new "
        "state.",
        (_NAME,),
    ),
    Verb(
        "verify",
        "Check a table's files against its manifest; without a name, check every table.",
        (_OPTIONAL_NAME,),
    ),
    Verb(
        "lineage",
        "Draw the lineage of one table or, without a name, of the whole workspace.",
        (_OPTIONAL_NAME,),
        (
            flag("--up", "only upstream: what it was computed from"),
            flag("--down", "only downstream: what is computed from it"),
            flag("--columns", "column lineage: which columns each column was computed from"),
        ),
    ),
    Verb(
        "plan",
        "Preview what recompute would do for these tables (or all), and why (dry run).",
        (_NAMES,),
    ),
    Verb(
        "recompute",
        "Bring these tables (or all) up to date, recomputing only what changed.",
        (_NAMES,),
        (flag("--dry-run", "only show the plan"),),
    ),
    Verb(
        "what-if",
        "Show the status as it would be if these sources or tables changed (hypothetical).",
        (Argument("NAME", repeated=True),),
    ),
    Verb("history", "List the versions of a table with the time of each, newest first.", (_NAME,)),
    Verb(
        "diff",
        "Show the rows that differ between two versions of a table: B (the newest) against A (the "
        "one before it).",
        (
            _NAME,
            Argument("A", required=False, convert=positive_integer),
            Argument("B", required=False, convert=positive_integer),
        ),
    ),
    Verb(
        "restore",
        "Make an old version the newest again.",
        (_NAME, Argument("V", convert=positive_integer)),
    ),
    Verb(
        "export",
        "Write a table to a .parquet, .csv or .arrow file.",
        (_NAME, Argument("PATH")),
    ),
    Verb(
        "rename",
        "Rename a recipe; the old name stays as an alias.",
        (_NAME, Argument("NEW")),
    ),
    Verb("unalias", "Remove an alias.", (_NAME,)),
    Verb(
        "hold",
        "Leave a table as it is until it is named in recompute.",
        (_NAME,),
        (flag("--note TEXT", "the reason"),),
    ),
    Verb("unhold", "End the hold of a table.", (_NAME,)),
    Verb(
        "drop",
        "Remove a recipe and all its versions, unless another table reads it.",
        (_NAME,),
        (flag("--force", "also if other tables read it"),),
    ),
    Verb("edit", "Put the cell that makes a table below this one.", (_NAME,)),
    Verb(
        "expire",
        "Remove old versions of a table, except pinned ones and those that other tables were "
        "computed from.",
        (_NAME,),
        (flag("--keep N", "number of newest versions to keep (1)", convert=positive_integer),),
    ),
    Verb(
        "check",
        "Run the checks that are due, of the named tables or all.",
        (_NAMES,),
    ),
    Verb(
        "fsck",
        "Check that the catalog matches the files.",
        (),
        (
            flag(
                "--repair", "repair what can be repaired and remove files without a catalog entry"
            ),
            flag("--deep", "also verify the bytes of every file"),
        ),
    ),
    Verb("recover", "Clean up after crashed kernels, and check every table's files."),
    Verb("topics", "List the topics."),
    Verb(
        "tail",
        "Show the last events of a topic.",
        (Argument("TOPIC"),),
        (flag("-n|--events N", "number of events (10)", convert=positive_integer),),
    ),
    Verb(
        "ephemeral",
        "Open an ephemeral session for the bound tenant, close the sessions opened here, or list "
        "the open ones.",
        (Argument("open|close|list"),),
        (flag("--timeout S", "seconds until it closes by itself (600)", convert=positive_integer),),
    ),
    Verb(
        "tenant",
        "Show the bound tenant, or bind one.",
        (_OPTIONAL_NAME,),
        (flag("--none", "unbind the tenant; only shared tables are visible then"),),
    ),
)
VERB_NAMES = tuple(verb.name for verb in VERBS if verb.name)
_HELP_VERB = next(verb for verb in VERBS if verb.name == "help")


def parse_line(line: str) -> tuple[Verb, dict[str, Any]]:
    """Parse a `%jammi` line into its verb and the values by key. InvalidArgument carries the usage
    and near matches."""
    words = split_words(line)
    name = words[0] if words else ""
    if name in HELP_FLAGS:
        return _HELP_VERB, {"WORD": None}
    for verb in VERBS:
        if verb.name == name:
            return (
                (_HELP_VERB, {"WORD": name})
                if wants_help(words[1:])
                else (verb, parse_words(verb, words[1:]))
            )
    raise unknown_verb_error(words, VERB_NAMES)
