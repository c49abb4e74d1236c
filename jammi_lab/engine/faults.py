"""What DuckDB says when it fails, said as one of our errors: a sentence, the place, near names from our own schemas, what to do."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jammi_lab import names
from jammi_lab.engine import functions, hints
from jammi_lab.errors import JammiError, ResourceExhausted, SessionClosed, SourceUnavailable, SqlError, TableDamaged
from jammi_lab.sources.base import Relation
from jammi_lab.storage.remote import UNREACHABLE
from jammi_lab.values.anchors import InputKind

_KIND = re.compile(r"\s*([A-Z][A-Za-z ]*?) (?:Error|exception): ?(.*)", re.S)
_PATH = re.compile(r"(?:[a-z][a-z0-9+.-]*:/)?/[^\s\"',;)]*")
_PLACE = re.compile(r"\s*\n?LINE \d+:.*", re.S)
_BODY = re.compile(r'\{"exception_type":.*', re.S)
_READING = re.compile(
    r"No magic bytes|Failed to read|Malformed JSON in file|Error when sniffing|CSV Error|too small to be a Parquet|TProtocol|decompression failure|"
    r"[Pp]arquet file|Invalid unicode .*file|No files found"
)
_OURS = re.compile(r"\b__jammi_\d+\.(?:main\.)?")
"""The namespace of a statement, where DuckDB tells it with a name."""
_COUNTS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")


@dataclass(frozen=True, slots=True)
class Fault:
    """What DuckDB said, taken apart."""

    kind: str
    """Parser, Binder, Conversion, IO, Out of Memory …; empty when it is not DuckDB's."""
    message: str
    """The text, without the place and DuckDB's own suggestions."""
    position: int | None = None
    """Where in what was executed: bytes, of a syntax error characters."""
    subtype: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text that was executed stands in what the person wrote, and what it reads."""

    text: str
    """All the text that the person wrote."""
    offset: int = 0
    """Where the statement begins in it, in characters."""
    statement: str = ""
    """The statement, as executed after `prefix` bytes."""
    relations: Sequence[Relation] = ()
    """What it reads."""
    columns: Sequence[str] = field(default=())
    """The columns that it could have meant."""
    bound: bool = False
    """Whether these columns were there when the statement was bound, and it is now run."""

    def at(self, error: JammiError, position: int | None) -> JammiError:
        """The same error with its place; `position` is a byte offset into the statement."""
        if position is None or not 0 <= position <= len(self.statement.encode("utf-8", "replace")):
            return error.at(self.text, None)
        before = self.statement.encode("utf-8", "replace")[:position].decode(errors="ignore")
        return error.at(self.text, self.offset + len(before))


def read_fault(error: BaseException) -> Fault:
    """The parts of an error of DuckDB, or of what pyarrow makes of one while it streams."""
    text = str(error)
    said = _KIND.match(text)
    inner = _BODY.search(text)  # not always in front: an error in the middle of a stream comes wrapped into another one
    try:
        body: dict[str, Any] = json.loads(inner[0], strict=False) if inner else {}
    except ValueError:
        body = {}
    if not body:
        return Fault(said[1], _PLACE.sub("", _OURS.sub("", said[2]))) if said else Fault("", text)
    position, message = body.get("position"), _OURS.sub("", str(body.get("exception_message", "")))
    at = int(position) if position else None
    return Fault(str(body["exception_type"]), message, at, str(body.get("error_subtype", "")), str(body.get("name", "")))


def is_fatal(error: BaseException) -> bool:
    """Whether the instance itself cannot be used any more."""
    return read_fault(error).kind in ("FATAL", "Fatal", "INTERNAL", "Internal") or "database has been invalidated" in str(error)


def translate(error: BaseException, place: Place, *, prefix: int = 0) -> JammiError:
    """Our error for what went wrong while a statement was parsed, bound or run; `prefix` bytes stood before the statement."""
    if isinstance(error, JammiError):
        return error
    fault = read_fault(error)
    if spent := _exhausted(error, fault):
        return spent.at(place.text, None)
    if explained := _explained(fault, place.relations):
        return explained.at(place.text, None)
    if fault.kind not in ("Parser", "Binder", "Catalog") and place.relations and _is_reading(error, fault, place.relations):
        return _unreadable(fault, place.relations).at(place.text, None)
    fault = replace(fault, position=_byte(fault, place.statement, prefix))
    return place.at(_said(fault, place), fault.position)


def _byte(fault: Fault, statement: str, prefix: int) -> int | None:
    """The place of a fault as a byte offset into the statement; DuckDB's grammar counts characters."""
    if fault.position is None:
        return None
    at = fault.position - prefix
    return len(statement[:at].encode("utf-8", "replace")) if fault.subtype == "SYNTAX_ERROR" and at >= 0 else at


def translate_reading(error: BaseException, relation: Relation | None = None) -> JammiError:
    """Our error for what went wrong while a source that has no name yet, or is given, was read."""
    fault = read_fault(error)
    relations = (relation,) if relation is not None else ()
    return _exhausted(error, fault) or _explained(fault, relations) or _unreadable(fault, [r for r in relations if r.input.name])


def _explained(fault: Fault, relations: Iterable[Relation]) -> JammiError | None:
    """What the connector of a relation makes of DuckDB's words."""
    asked = sorted(relations, key=lambda relation: not relation.discreet)
    explains = {relation.input.identity: relation.explain for relation in asked if relation.explain is not None}
    return next((said for explain in explains.values() if (said := explain(fault.message)) is not None), None)


def _exhausted(error: BaseException, fault: Fault) -> JammiError | None:
    if "max_temp_directory_size" in fault.message or "No space left" in fault.message or "Disk quota" in fault.message:
        return ResourceExhausted(
            "The statement ran out of temporary disk space.", hint="Raise the setting engine.temp_quota, free disk space, or read fewer rows."
        )
    if "/jammi-spill-" in fault.message:
        return ResourceExhausted(
            "The statement needed temporary disk space, and there is none that can be written.", hint="Look at the system's temporary folder."
        )
    if fault.kind == "Out of Memory" or isinstance(error, MemoryError) or "failed to allocate" in fault.message.lower():
        return ResourceExhausted(
            "The statement needed more memory than it may use.", hint="Raise the setting engine.memory_limit, or group and select fewer rows."
        )
    return None


# -- reading a source ----------------------------------------------------------------------------------------------------------------------


def _is_reading(error: BaseException, fault: Fault, relations: Sequence[Relation]) -> bool:
    if fault.kind in ("IO", "HTTP", "Permission", "Serialization", "Invalid") or (not fault.kind and isinstance(error, OSError)):
        return True
    if _blamed(fault.message, relations) or fault.message.startswith("CSV Error"):
        return True
    return fault.kind in ("Invalid Input", "Conversion", "") and bool(_READING.match(fault.message))


def _blamed(message: str, relations: Iterable[Relation]) -> list[Relation]:
    """The relations whose files a message names."""
    paths = {p.rstrip(".:") for p in _PATH.findall(message)}
    folders = {p.rsplit("/", 1)[0] for p in paths if p.count("/") > 1}
    exact = [r for r in relations if r.body and any(p in r.body for p in paths)]
    return exact or [r for r in relations if r.body and any(f"{f}/" in r.body for f in folders)]


def _unreadable(fault: Fault, relations: Sequence[Relation]) -> JammiError:
    blamed = _blamed(fault.message, relations) or list(relations)
    labels = sorted({r.input.label for r in blamed})
    if not labels:
        return SourceUnavailable(f"The source cannot be read: {_reason(fault)}.")
    if blamed[0].input.kind is InputKind.RESULT and f"[Errno {UNREACHABLE}]" in fault.message:
        return SourceUnavailable(f"The store of the table {labels[0]} cannot be used: {_reason(fault)}.", hint="Try again when it answers.")
    if len(labels) == 1 and blamed[0].input.kind is InputKind.RESULT:
        return TableDamaged(
            f"The table {labels[0]} cannot be read: {_reason(fault)}.", table=labels[0], hint="Look with `verify`, then recompute it."
        )
    subject = f"The source {labels[0]}" if len(labels) == 1 else f"One of {', '.join(labels)}"
    return SourceUnavailable(f"{subject} cannot be read: {_reason(fault)}.", hint="Check that the file is whole and in the format it was added with.")


def _reason(fault: Fault) -> str:
    """One clause: which file, which line, what is wrong with it. Only the last part of a path is told."""
    message = fault.message
    file = re.search(r"^  file = (.*)$", message, re.M)
    line = re.search(r"CSV Error on Line: (\d+)", message)
    where = ", ".join(([file[1].rsplit("/", 1)[-1]] if file else []) + ([f"line {line[1]}"] if line else []))
    if line and (counts := _COUNTS.search(message)):
        return f"{where} has {counts[2]} columns where {counts[1]} are expected"
    if sniffed := re.search(r"they contain: (\d+) columns.*?found by the sniffer: (\d+)", message, re.S):
        return f"a file has {sniffed[2]} columns where {sniffed[1]} are expected"
    if "when sniffing file" in message:
        return f"{f'{where}: ' if where else ''}the lines do not all have the same number of values"
    clauses = [clause for clause in message.split("\n") if clause.strip() and not clause.startswith(("CSV Error on Line", "Original Line"))]
    first = clauses[0] if clauses else "the reader gave up"
    if converted := re.match(r"Error when converting column \"?([^\n]*?)\"?\. ?(.*)", first):
        first = f"column {converted[1]}: {converted[2]}"
    first = _PATH.sub(lambda p: p[0].rsplit("/", 1)[-1] or "the file", first).strip().rstrip(".:")
    return f"{where}: {first}" if where else first


# -- what is wrong with the statement ------------------------------------------------------------------------------------------------------


def _said(fault: Fault, place: Place) -> JammiError:
    message = fault.message.strip()
    if fault.kind == "Parser":
        return SqlError(_syntax(message), hint=hints.of_syntax(message, fault.position, place.statement))
    if missing := _missing_column(fault):
        return _no_column(missing, fault, place)
    if said := re.match(r'Ambiguous reference to table "(.*?)" \(duplicate alias', message):
        return _two_of(said[1])
    if said := re.match(r'Referenced table "(.*?)" not found!\s*(?:Candidate tables?: (.*))?', message, re.S):
        aliases = re.findall(r'"((?:[^"]|"")*)"', said[2] or "")  # with DuckDB's own of what has none, which nobody wrote
        return SqlError(f"Nothing in FROM is called {said[1]}.", near=[a for a in aliases if not a.startswith(("__jammi", "unnamed_subquery"))])
    if said := re.match(r"No function matches the given name and argument types '(.*?)'\. ", message, re.S):
        name, _, types = said[1].replace("_LITERAL", "").partition("(")
        wrong = f"There is no function {name}({types}" if name.isidentifier() else f"The operator {name} does not take ({types}"
        return SqlError(
            f"{wrong}.", hint=hints.of_worded(message, fault.position, place.statement, place.relations) or hints.of_arguments(said[1], message)
        )
    if said := re.match(r'Could not choose a best candidate function for the function call "(.*?)"', message, re.S):
        return SqlError(f"It is not clear which function {said[1]} means.", hint="Cast its arguments, for example x::INTEGER.")
    if said := re.match(r'Ambiguous reference to column name "(.*?)" \(use: (.*)\)', message):
        meant = said[2].replace(chr(34), "").split(" or ")
        if len(set(meant)) == 1:
            return _two_of(meant[0].rpartition(".")[0])
        return SqlError(f"The column {said[1]} is ambiguous: it may be {' or '.join(meant)}.")
    if said := re.match(r"(?:\w+ )*Function with name (.*?) does not exist!", message, re.S):
        if functions.is_window(said[1]):
            return SqlError(f"{said[1]}() looks at rows beside its own.", hint=f"Write {said[1]}(…) OVER (ORDER BY …).")
        return SqlError(f"There is no function {said[1]} of that use.")
    if fault.kind in ("INTERNAL", "FATAL", "Internal", "Fatal"):
        return SqlError(
            "DuckDB failed on this statement by a fault of its own.", hint="Write the statement differently; the next one runs on a new instance."
        )
    return SqlError(
        sentence(message) or f"The statement failed ({fault.kind or 'unknown'} error).",
        hint=hints.of_worded(message, fault.position, place.statement, place.relations) or hints.of_words(message),
    )


def _two_of(name: str) -> SqlError:
    return SqlError(f"Two tables in FROM are called {name}.", hint="Give one of them a name of its own with AS.")


def _no_column(missing: str, fault: Fault, place: Place) -> SqlError:
    """A column that is not there: at all, or not in the table that it was asked of, or not any more."""
    where = ", ".join(sorted({r.input.label for r in place.relations}))
    there = any(names.fold(missing) == names.fold(c) for c in place.columns)
    if there and place.bound:
        return SqlError(f"The column {missing} is not in {where} any more: it was changed while the statement was prepared.", hint="Run it again.")
    asked = re.match(r'(?:Table|Values list) "(.*?)" does not have a column named', fault.message)
    if there and asked is None:
        return SqlError(f"There is no column {missing} at this place.", hint="An input has one, but what is selected from here has not.")
    near = [] if there else names.near(missing, place.columns)
    hint = "" if there or near else hints.of_text(missing, fault.position, place.statement)
    return SqlError(f"There is no column {missing}" + (f" in {asked[1] if there and asked else where}." if where else "."), near=near, hint=hint)


def _syntax(message: str) -> str:
    if message.startswith("NameListToString"):
        return "A name in FROM has at most three parts: source.schema.table."
    if said := re.match(r"syntax error at or near (.*)", message, re.S):
        return f"The syntax is wrong at or near {said[1][:60]}."
    if message.startswith("syntax error at end of input"):
        return "The statement ends too early."
    if message.startswith("unterminated"):
        return f"An {message.split(' at or near', maxsplit=1)[0]} runs to the end of the statement."
    if message.startswith(("memory exhausted", "Max expression depth")):
        return "The statement is nested too deeply."
    return sentence(message)


def _missing_column(fault: Fault) -> str:
    if fault.subtype == "COLUMN_NOT_FOUND" and fault.name:
        return fault.name
    said = re.match(r'(?:Table|Values list|Column) "?.*?"? does not have a column named "(.*?)"', fault.message, re.S)
    said = said or re.match(r'Referenced column "(.*?)" not found', fault.message, re.S)
    return said[1] if said else ""


def sentence(message: str) -> str:
    """The first line of a message as a sentence."""
    first = message.strip().split("\n")[0].strip()
    first = _PATH.sub(lambda p: p[0].rsplit("/", 1)[-1], first) if "/" in first and "://" not in first else first
    return first[:1].upper() + first[1:] + ("" if first.endswith((".", "!", "?")) or not first else ".")


def closed() -> JammiError:
    """What a call on a closed engine or stream raises."""
    return SessionClosed("This was closed already.", hint="Open the workspace, or run the statement, again.")


def stopped() -> JammiError:
    """What a statement raises that ran when its engine was closed."""
    return SessionClosed("The workspace was closed while this was running.", hint="Open it and run it again.")
