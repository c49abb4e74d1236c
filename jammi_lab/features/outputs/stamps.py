"""Stamps: what an output or a saved file says about the tables that it shows, so that it can be
checked later without the kernel that made it."""

import builtins
import contextlib
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from jammi_lab.core.anchors import Anchor, Identity, Snapshot
from jammi_lab.core.clock import rfc3339
from jammi_lab.core.errors import JammiError
from jammi_lab.core.interrupts import Signal
from jammi_lab.core.records import TableRecord
from jammi_lab.core.thread_pool import submit
from jammi_lab.core.value import Value

if TYPE_CHECKING:
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.inputs.observation import Observation

_T = TypeVar("_T")
STAMP_KEY = "jammi"
"""The key of the stamp in the metadata of an output or a file."""
MAX_DIGEST_CHARACTERS = 16
"""Characters of a digest in a stamp: 64 bits."""
OBSERVATION_SECONDS = 0.5
"""How long a statement of a person waits for the states of the files that it will read. A large
file that was not hashed before takes longer; its state is known at the next statement."""
MAX_VERDICT_CHARACTERS = 120
MAX_UNRECORDED = 5
"""Names of inputs without a recorded state that a stamp lists."""


class StampedTable(Value, frozen=True):
    """A result table whose rows are shown."""

    name: str
    """The recipe; the physical name when an exact version was requested."""
    version: int
    """The version that was read."""
    digest: str
    """The first characters of the digest of its file."""


class StampedSource(Value, frozen=True, omit_defaults=True):
    """An input other than a result table, in the state that was read."""

    name: str
    """The registered name, or the path."""
    anchor: str
    """The first characters of the anchor's value."""
    columns: list[str] = []
    """The columns read."""
    table: str | None = None
    """The table inside a source that has several."""
    kind: str = "source"
    """The kind of input."""


class Stamp(Value, frozen=True, omit_defaults=True):
    """What an output shows, and when its verdict was evaluated."""

    workspace: str
    """The id of the workspace."""
    tables: list[StampedTable] = []
    """The result tables."""
    sources: list[StampedSource] = []
    """Other inputs whose state is known."""
    unrecorded: list[str] = []
    """Inputs whose state is not known."""
    rows: str = ""
    """A digest of what is shown."""
    looked_at: str = ""
    """When the verdict was evaluated, RFC 3339 with seconds."""
    verdict: str = ""
    """The verdict in one sentence; empty when it was not evaluated."""
    tenant: str | None = None
    """The bound tenant."""
    cell: str = ""
    """The cell that made it, in a saved file; an output stands below its cell."""
    code: str = ""
    """A digest of the text of that cell; empty outside notebooks."""
    params: dict[str, str] = {}
    """Digests of the values of the statement's parameters, by name."""
    timezone: str = "UTC"
    """The setting `engine.timezone`, in which instants were computed and displayed."""

    def shortened(self) -> "Stamp":
        """The same with a verdict of bounded length."""
        verdict = self.verdict
        if len(verdict) > MAX_VERDICT_CHARACTERS:
            verdict = verdict[: MAX_VERDICT_CHARACTERS - 1].rstrip() + "…"
        return self.with_values(verdict=verdict)

    def metadata(self, data: Mapping[str, str]) -> dict[str, Any]:
        """The metadata of an output with this data by MIME type."""
        stamp = self.shortened().with_values(rows=shown_digest(data), cell="")
        return {STAMP_KEY: stamp.to_dict()}


def stamp_from(value: object) -> Stamp | None:
    """The stamp in metadata that was read from a file; None when there is no valid one."""
    try:
        return msgspec.convert(value, Stamp)
    except ValueError:  # also of a lone surrogate in place of a number or a list
        return None


def shown_digest(data: Mapping[str, Any]) -> str:
    """A digest of the text of an output, as text and as HTML, and of the other types that it has: a
    front end may prefer one."""
    digest = hashlib.sha256()
    for kind in sorted({"text/plain", "text/html", *data}, reverse=True):
        text = data.get(kind, "")
        joined = "".join(map(str, text)) if isinstance(text, list) else str(text)
        digest.update(f"{len(joined)}:".encode() + joined.encode("utf-8", "surrogatepass"))
    return short(digest.hexdigest())


def value_digest(value: object) -> str:
    """A digest of the value of a parameter, as Python writes it."""
    return short(hashlib.sha256(repr(value).encode("utf-8", "backslashreplace")).hexdigest())


def code_digest(source: str) -> str:
    """A digest of the text of a cell, whatever blanks end its lines."""
    lines = [line.rstrip() for line in source.strip().splitlines()]
    return short(hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest())


def short(digest: str | None) -> str:
    """The part of a digest that a stamp holds."""
    return (digest or "")[:MAX_DIGEST_CHARACTERS]


def _kernel() -> Any:
    """The kernel that runs this; None outside notebooks."""
    shell = getattr(builtins, "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None)


class StampMaker:
    """Makes the stamps of one workspace."""

    def __init__(
        self,
        workspace_id: Callable[[], str],
        now_ns: Callable[[], int],
        new_observation: "Callable[[bool], Observation]",
        timezone: Callable[[], str],
    ) -> None:
        self._workspace_id, self._now_ns = functools.cache(workspace_id), now_ns
        self._timezone = timezone
        self._new_observation = new_observation
        self.observes_files = _kernel() is not None
        """Whether the states of local files are recorded before a statement reads them; in
        notebooks, whose outputs have stamps."""
        self.current_cell: Callable[[], str] = lambda: ""
        """The cell that runs, as `cell [7] of figures.ipynb`; empty outside notebooks."""
        self.current_code: Callable[[], str] = lambda: ""
        """The digest of the text of that cell; empty outside notebooks."""

        self.on_output: Callable[[Stamp], None] = lambda _: None
        """Called with the stamp of each output of rows."""

    def metadata(self, stamp: Stamp, data: Mapping[str, str]) -> dict[str, Any]:
        """The metadata of an output of rows with that stamp."""
        self.on_output(stamp)
        return stamp.metadata(data)

    def source_states(
        self, prepared: "PreparedStatement", tenant: str | None
    ) -> dict[Identity, Anchor]:
        """The states of the local files that a statement will read, by identity. Servers and
        object stores are not asked: that may take longer than the statement."""
        files = []
        for bound in prepared.inputs:
            if (
                bound.relation.input.kind_class.is_stored
                and bound.relation.token is None
                and bound.relation.requirements.attachment is None
                and bound.relation.requirements.filesystem is None
                and bound.relation.requirements.scoped_secret is None
            ):
                files.append(bound)

        def observe(observation: "Observation") -> dict[Identity, Anchor]:
            return {
                bound.relation.input.identity: observation.anchor(
                    bound.relation, bound.columns, tenant
                )
                for bound in files
            }

        return self._observe_in_time(observe) if files else {}

    def snapshots(self, anchors: Sequence[Anchor], tenant: str | None) -> dict[Identity, Snapshot]:
        """The present states, over all columns, of the files among recorded inputs, by identity."""
        files = []
        for anchor in anchors:
            if anchor.input.kind_class.is_stored and anchor.server_types is msgspec.UNSET:
                files.append(anchor.input)

        def observe(observation: "Observation") -> dict[Identity, Snapshot]:
            states = {
                each.identity: observation.observe(each, tenant, all_columns=True) for each in files
            }
            return {key: state for key, state in states.items() if isinstance(state, Snapshot)}

        return self._observe_in_time(observe) if files else {}

    def _observe_in_time(
        self, observe: "Callable[[Observation], dict[Identity, _T]]"
    ) -> "dict[Identity, _T]":
        """What is observed before a statement reads it; nothing where that takes too long, because
        a state that comes later may be that of a change since the read."""
        if not self.observes_files:
            return {}
        states, finished = dict[Identity, _T](), Signal()

        def run() -> None:
            try:
                with contextlib.suppress(JammiError):  # the statement itself reports a missing file
                    observation = self._new_observation(False)
                    states.update(observe(observation))
                    observation.close()
            finally:
                finished.set()

        submit(run, "jammi-look")
        # nobody waits where a tool runs all cells, as it tells the kernel
        seconds = OBSERVATION_SECONDS if getattr(_kernel(), "_allow_stdin", True) else -1
        return states if finished.wait(seconds) else {}

    def stamp(
        self,
        tables: Sequence[StampedTable] = (),
        *,
        sources: Sequence[StampedSource] = (),
        unrecorded: Sequence[str] = (),
        tenant: str | None = None,
        verdict: str = "",
        params: Mapping[str, str] | None = None,
    ) -> Stamp:
        """A stamp of this moment."""
        names = list(dict.fromkeys(unrecorded))
        if len(names) > MAX_UNRECORDED:
            names = [*names[: MAX_UNRECORDED - 1], f"{len(names) - MAX_UNRECORDED + 1} more"]
        return Stamp(
            self._workspace_id(),
            list(dict.fromkeys(tables)),
            list(sources),
            names,
            looked_at=rfc3339(self._now_ns())[:19] + "Z",
            verdict=verdict,
            tenant=tenant,
            cell=self.current_cell(),
            code=self.current_code(),
            params=dict(params or {}),
            timezone=self._timezone(),
        )


def stamped_table(name: str, version: int, record: TableRecord) -> StampedTable:
    """A version of a recipe as a stamp names it."""
    return StampedTable(name, version, short(record.digest))


def stamped_source(anchor: Anchor) -> StampedSource:
    """The state of another input as a stamp names it."""
    source = anchor.input
    return StampedSource(
        source.name, short(anchor.value), list(source.columns), source.table, source.kind
    )
