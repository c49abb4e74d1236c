"""The verdicts of the recipe graph from one observation pass."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from jammi_lab.core.anchors import (
    Anchor,
    FrameOrigin,
    Identity,
    Observed,
    Snapshot,
    Unknown,
    Vanished,
    is_rounded,
    rests_on_statement,
    result_input,
)
from jammi_lab.core.errors import JammiError, TableNotFound
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import fold
from jammi_lab.core.manifest import Increment, Manifest
from jammi_lab.core.records import TableRecord, TableStatus
from jammi_lab.core.verdicts import BUT_FOR_ROUNDING, Damaged, Fresh, Verdict
from jammi_lab.freshness.input_differences import InputDifferences
from jammi_lab.freshness.recipe_graph import RecipeGraph, RecipeKey, RecipeNode, outside_inputs
from jammi_lab.freshness.table_verdict import (
    Evidence,
    Ground,
    State,
    evaluate_frame,
    evaluate_table,
    frame_grounds,
    fresh_on,
    inherited_grounds,
    schema_changed,
    with_changed_meaning,
)
from jammi_lab.inputs.observation import Observation
from jammi_lab.steps.build import BuildContext
from jammi_lab.steps.definition_changes import changed_environment, changed_parts
from jammi_lab.steps.registry import RecordedRecipes, recipe_of
from jammi_lab.store import manifests
from jammi_lab.store.recovery import WRITER_EXITED
from jammi_lab.store.result_files import result_snapshot

_BYTES_GONE = Damaged(found=None)
_InputStates = Mapping[Identity, State]


class KnownChecks(Protocol):
    """What is known of checks on tables and inputs. Runs none."""

    def passes(self, record: TableRecord, observation: Observation) -> bool | None:
        """Whether a table passes the blocking checks on its recipe; None when that is unknown."""


class EvaluatedGraph:
    """The recipe graph with the verdicts of one observation pass."""

    def __init__(
        self,
        ctx: BuildContext,
        recorded: RecordedRecipes,
        observation: Observation,
        graph: RecipeGraph,
        checks: KnownChecks,
    ) -> None:
        catalog, scope = ctx.catalog, ctx.scope
        self.graph, self.observation, self._scope = graph, observation, scope
        self.checks = checks
        self._grounds: dict[RecipeKey, tuple[Ground, ...]] = {}
        """The grounds of each table, and of all tables upstream of it."""
        self._catalog, self._recorded = catalog, recorded
        self._definition_of = recorded.current_definitions(import_modules=observation.deep)
        self._differences = InputDifferences(catalog, scope, graph, observation)
        self.verdicts: dict[RecipeKey, Verdict] = {}
        self.own_verdicts: dict[RecipeKey, Verdict] = {}
        """Verdicts without causes inherited from upstream."""
        self._states: dict[RecipeKey, _InputStates] = {}
        """The states of the inputs of each table."""
        self._plain_states: dict[tuple[str | None, int], tuple[object, _InputStates | None]] = {}
        """The results of `_states_if_unchanged`, by the identity of lists, which are kept with
        them."""

    def increment(self, record: TableRecord) -> Increment | None:
        """The increment by which a table was computed; None for a full computation."""
        if not record.recipe_class.is_statement:
            return None
        manifest = self._manifest(record)
        return manifest.increment if manifest is not None else None

    def failed_rows(self, record: TableRecord | None) -> list[str]:
        """How many rows of a row map have an error in place of outputs, as a clause; empty where
        none has."""
        if record is None or not record.recipe_class.reuses_rows:
            return []
        manifest = self._manifest(record)
        count = 0 if manifest is None else manifest.counts.get("errors", 0)
        return [f"{count_noun(count, 'row')} with an error"] if count else []

    def changed_parts(self, node: RecipeNode) -> list[str]:
        """In what the definition of a recipe differs from that of its newest table; empty where
        that is not known."""
        if node.recipe is None or node.record is None:
            return []
        manifest = self._manifest(node.record)
        current = self._recorded.current_descriptor(node.recipe)
        if manifest is None or isinstance(current, Unknown):
            return []
        environment = recipe_of(current).environment(
            self._recorded.bind_context(), node.recipe.environment
        )
        parts = changed_parts(manifest.descriptor, current)
        return parts + changed_environment(manifest.environment, environment)

    def _manifest(self, record: TableRecord) -> Manifest | None:
        """The manifest of a table; None when it is missing or cannot be read."""
        return manifests.parse(self._catalog.result_tables.manifest(record.table_name))

    def evaluate_all(self, starts: Iterable[RecipeNode] | None = None) -> None:
        """Evaluate the nodes, by default all visible ones, and everything upstream of them.
        DependencyCycle."""
        order = (
            self.graph.visible_in_order
            if starts is None
            else self.graph.topological_order(starts, self.graph.dependencies)
        )
        self.observation.observe_all(
            self.graph.outside_inputs if starts is None else outside_inputs(order)
        )
        fresh = Fresh()  # one for all, as a workspace may have 100 000
        for node in order:
            key, definition = node.key, self.current_definition(node)
            if self._is_unchanged(node, definition):
                grounds = self._find_grounds(node, [])  # no anchor of it is a ground
                self.own_verdicts[key] = self.verdicts[key] = (
                    fresh_on(grounds) if grounds else fresh
                )
                continue
            facts = self.evidence(node, definition)
            self._states[key] = facts.current_states
            self.own_verdicts[key] = evaluate_table(facts)
            self.verdicts[key] = evaluate_table(facts, self._upstream_verdicts(node))
        self._persist()

    def superseded_during_pass(self) -> bool:
        """Whether a table without bytes is no longer ready: not damaged, but removed by another
        kernel since the graph was read."""
        return any(
            self.own_verdicts.get(node.key) == _BYTES_GONE and not self._is_ready(node)
            for node in self.graph.nodes.values()
        )

    def _is_ready(self, node: RecipeNode) -> bool:
        """Whether the table of a node is ready now."""
        if node.record is None:
            return False
        record = self._physical_table(node.record.table_name, node.tenant)
        return record is not None and record.status is TableStatus.READY

    def _is_unchanged(self, node: RecipeNode, definition: str | Unknown | None) -> bool:
        """Whether a table is fresh because nothing differs: the definition, each input, the files,
        and the tables upstream. These are nearly all tables of nearly all passes; an evaluation
        would give the same verdict for several times the work. Whatever needs a second look
        (another state, whose rows may be equal; frames, exact versions, notes) is left to it."""
        record = node.record
        if record is None or record.definition_hash != definition:
            return False
        states = self._states_if_unchanged(node, record)
        if states is None or definition is None:
            return False
        for parent in self.graph.recorded_inputs(node):
            if type(self.verdicts[parent.key]) is not Fresh:
                return False
        self._states[node.key] = states
        return self.observation.damage(record) is None

    def _states_if_unchanged(self, node: RecipeNode, record: TableRecord) -> _InputStates | None:
        """The current states of the inputs of a table, if they are the recorded ones without
        anything to say about them. Records whose anchors are equal often share the list."""
        key = (node.tenant, id(record.anchors))
        if key not in self._plain_states:
            states = self.current_states(node, record)
            are_plain = all(
                self._is_plain(anchor, states.get(anchor.input.identity), node.tenant)
                for anchor in record.anchors
            )
            self._plain_states[key] = record.anchors, states if are_plain else None
        return self._plain_states[key][1]

    def _is_plain(self, recorded: Anchor, current: State | None, tenant: str | None) -> bool:
        """Whether a state is the recorded one of a source or recipe, without anything to say about
        it."""
        return (
            isinstance(current, Anchor)
            and recorded.same_state(current)
            and recorded.schema in ("", current.schema)
            and not current.note
            and not rests_on_statement(recorded.method)
            and not is_rounded(recorded)
            and recorded.origin is msgspec.UNSET
            and not recorded.input.kind_class.has_origin
            and not self._is_exact(recorded, tenant)
        )

    def states(self, node: RecipeNode) -> _InputStates:
        """The states of the inputs that the verdict on a node rests on."""
        return self._states[node.key]

    def evaluate_version(self, node: RecipeNode) -> Verdict:
        """The verdict on the version that a node holds, by the recipe's current definition and the
        current state of the inputs."""
        self.evaluate_all([*self.graph.recorded_inputs(node), *self.graph.frame_inputs(node)])
        facts = self.evidence(node, self.current_definition(node))
        self._states[node.key] = facts.current_states
        verdict = evaluate_table(facts, self._upstream_verdicts(node))
        self._persist()
        return verdict

    def failed_run(self, node: RecipeNode) -> str | None:
        """The error of the last run of a recipe's definition as a clause, if it failed or was
        rejected. None when its newest version came later, or is fresh nevertheless."""
        if isinstance(self.verdicts.get(node.key), Fresh):
            return None
        failed = self._failed_runs.get((node.key, self.current_definition(node)))
        if failed is None:
            return None
        version, error = failed
        if node.version and version < node.version.version:
            return None
        return f"its last run failed: {error}"

    @functools.cached_property
    def _failed_runs(self) -> Mapping[tuple[RecipeKey, object], tuple[int, str]]:
        """The version and the error of the last run of each definition that failed, was rejected or
        whose process was killed."""
        failed: dict[tuple[RecipeKey, object], tuple[int, str]] = {}
        for version, record in self._catalog.result_tables.unfinished():
            if record.error is None and self._catalog.writers.is_alive(record.writer_id):
                continue
            key = ((version.tenant, fold(version.recipe)), record.definition_hash)
            run = version.version, record.error or WRITER_EXITED
            failed[key] = max(run, failed.get(key, run))
        return failed

    def _persist(self) -> None:
        """Persist the observations for later passes."""
        self.observation.close()

    def _upstream_verdicts(self, node: RecipeNode) -> list[tuple[str, Verdict]]:
        """The verdicts on a version's upstream tables: recipes by name, and physical tables, of
        which only the files are checked."""
        verdicts, observed_at = list[tuple[str, Verdict]](), self.observation.started_at
        frames = frames_of_tables(node)
        for parent in self.graph.recorded_inputs(node):
            way = parent.name, self.verdicts[parent.key]
            if (frame := frames.get(fold(parent.name))) is not None:
                reader = Evidence(recorded="", current="", observed_at=observed_at)
                way = frame, evaluate_table(reader, [way])
            verdicts.append(way)
        for anchor in node.record.anchors if node.record is not None else ():
            source = anchor.input
            if isinstance(anchor.origin, FrameOrigin):
                verdicts.append((source.label, self.origin_verdict(node, anchor.origin)))
            elif self._is_exact(anchor, node.tenant):
                of_files = self.table_verdict(source.name, node.tenant)
                if of_files is not None:
                    verdicts.append((source.name, of_files))
        return verdicts

    def origin_verdict(self, node: RecipeNode, origin: FrameOrigin) -> Verdict:
        """The verdict on a frame that a table of the node was made from. A table that was made from
        the node in turn has no verdict yet, because neither can be judged first: that is a ground.
        It is judged by its state, and by what the recorded version of it was made from."""
        observed_at = self.observation.started_at
        sources, judged = self.graph.sources_of_frame(node, origin)
        evidence = [
            Evidence(
                recorded="",
                current="",
                anchors=(a,),
                current_states={a.input.identity: self._frame_input_state(a, node.tenant)},
                observed_at=observed_at,
            )
            for a in sources
        ]
        parents = []
        for a in judged:
            if (
                a.input.kind_class.is_result
                and (verdict := self.verdict_on(a.input.name, node.tenant)) is not None
            ):
                parents.append((a.input.name, verdict))
        return evaluate_frame(evidence, parents, observed_at)

    def _frame_input_state(self, source: Anchor, tenant: str | None) -> State:
        """The current state of a table that a frame was made from. A column more or less counts:
        code that derives frames may take them all."""
        state = self.observe(source, tenant)
        if not isinstance(state, Snapshot):
            return state
        current = state.anchor(source.input, source.columns)
        return (
            with_changed_meaning(current)
            if schema_changed(source, state) and source.same_state(current)
            else current
        )

    def verdict_on(self, name: str, tenant: str | None) -> Verdict | None:
        """The verdict on a recipe, evaluated now if it was not part of the pass, or on the files of
        a physical table; None when it was dropped."""
        node = self.graph.find(name, tenant)
        if node is None:
            return self.table_verdict(name, tenant)
        if node.key not in self.verdicts:
            self.evaluate_all([node])
        return self.verdicts[node.key]

    def table_verdict(self, name: str, tenant: str | None) -> Verdict | None:
        """The verdict on the files of one physical table; None when it was dropped."""
        record = self._physical_table(name, tenant)
        if record is None:
            return None
        return evaluate_table(
            Evidence(
                recorded="",
                current="",
                damage=self.observation.damage(record),
                observed_at=self.observation.started_at,
            )
        )

    def _physical_table(self, name: str, tenant: str | None) -> TableRecord | None:
        with self._scope.use(tenant):
            return self._catalog.result_tables.get(name)

    def evidence(self, node: RecipeNode, definition: str | Unknown | None) -> Evidence:
        """The recorded and observed facts about the newest table of a recipe. `definition`: the
        hash of its current definition."""
        record = node.record
        if record is None:
            return Evidence(recorded=None, current=definition, ready=False)
        current_states = self.current_states(node, record)
        equal = [s for s in current_states.values() if isinstance(s, Anchor) and s.note]
        return Evidence(
            recorded=record.definition_hash,
            current=definition,
            anchors=tuple(record.anchors),
            current_states=current_states,
            damage=self.observation.damage(record),
            observed_at=self.observation.started_at,
            grounds=self._find_grounds(node, record.anchors, equal),
            notes=tuple(state.note for state in equal if not state.rounding),
            difference=lambda old, new: self._differences.describe(old, new, node.tenant),
        )

    def current_definition(self, node: RecipeNode) -> str | Unknown | None:
        """The hash of the current definition of a recipe; None for a recipe that was dropped."""
        return None if node.recipe is None else self._definition_of(node.recipe)

    def _find_grounds(
        self, node: RecipeNode, anchors: Sequence[Anchor], equal: Iterable[Anchor] = ()
    ) -> tuple[Ground, ...]:
        """The grounds of a table with these anchors, then those of the tables upstream. `equal`:
        the states of its inputs that are equal but for rounding; and those with equal rows, perhaps
        in another order, a ground only of what depends on the order of its rows, which may be that
        of theirs at another time."""
        texts = list[str]()
        if node.recipe is not None and node.recipe.descriptor.get("producer") != "sql":
            texts += self.failed_rows(node.record)
            texts += recipe_of(node.recipe.descriptor).verdict_grounds()
        parents, frames = list[tuple[str, Iterable[Ground]]](), frames_of_tables(node)
        for parent in self.graph.recorded_inputs(node) if self._grounds else ():
            name, grounds = parent.name, self._grounds.get(parent.key, ())
            if (frame := frames.get(fold(name))) is not None:
                name, grounds = frame, inherited_grounds([(name, grounds)])
            parents.append((name, grounds))
        for anchor in anchors:
            texts += frame_grounds(anchor)
            if self._is_exact(anchor, node.tenant):
                exact = self._physical_table(anchor.input.name, node.tenant)
                parents.append((anchor.input.label, map(Ground, self.failed_rows(exact))))
            if rests_on_statement(anchor.method):
                texts.append(f"{anchor.input.label} by {anchor.method} alone")
            if is_rounded(anchor):
                texts.append(f"{anchor.input.label} by numbers rounded to DOUBLE")
            if isinstance(anchor.origin, FrameOrigin):
                texts += [
                    f"{a.input.name} was itself computed from {node.name}"
                    for a in anchor.origin.inputs
                    if self.graph.is_made_from(node, a.input)
                ]
                parents.append((anchor.input.label, self._origin_grounds(node, anchor.origin)))
        of_equal = (Ground(state.note, of_order=not state.rounding) for state in equal)
        inherited = inherited_grounds(parents)
        if node.record is not None and node.record.order_sensitive:  # its values rest on the order
            inherited = tuple(ground._replace(of_order=False) for ground in inherited)
        if grounds := (*map(Ground, texts), *of_equal, *inherited):
            self._grounds[node.key] = grounds
        return tuple(ground for ground in grounds if not ground.of_order)

    def _origin_grounds(self, node: RecipeNode, origin: FrameOrigin) -> tuple[Ground, ...]:
        """The grounds of the tables that a frame was made from."""
        tables = {fold(a.input.name) for a in origin.inputs if a.input.kind_class.is_result}
        return inherited_grounds(
            (p.name, self._grounds.get(p.key, ()))
            for p in self.graph.frame_inputs(node)
            if fold(p.name) in tables
        )

    def current_states(self, node: RecipeNode, record: TableRecord) -> dict[Identity, State]:
        """The current state of each pinned input over the columns that the definition reads
        today."""
        observed = {
            a.input.identity: self.observe(a, node.tenant)
            for a in record.anchors
            if a.pinned and not a.is_given
        }
        has_changed = any(
            isinstance(observed[a.input.identity], Snapshot)
            and schema_changed(a, observed[a.input.identity])
            for a in record.anchors
            if a.input.identity in observed
        )
        exact = {a.input.identity for a in record.anchors if self._is_exact(a, node.tenant)}
        columns, same_meaning = (
            self._columns_read_today(node, record, observed) if has_changed or exact else ({}, True)
        )
        missing = exact & (observed.keys() - columns.keys())
        observed |= dict.fromkeys(missing, Vanished())
        states: dict[Identity, State] = {}
        for anchor in record.anchors:
            identity = anchor.input.identity
            if anchor.is_given:
                states[identity] = anchor
            match observed.get(identity):
                case Snapshot() as snapshot if schema_changed(anchor, snapshot):
                    columns_today = columns.get(identity)
                    if not snapshot.covers(columns_today):
                        wider = self._observe_over(anchor, columns_today, node.tenant)
                        if not isinstance(wider, Snapshot):
                            states[identity] = wider
                            continue
                        snapshot = wider
                    current = snapshot.anchor(anchor.input, columns_today)
                    if not same_meaning and anchor.same_state(current):
                        current = with_changed_meaning(current)
                    states[identity] = (
                        self._compare_rows(anchor, current, node, record)
                        if same_meaning
                        else current
                    )
                case Snapshot() as snapshot:
                    current = snapshot.anchor(anchor.input, anchor.columns)
                    states[identity] = self._compare_rows(anchor, current, node, record)
                case Vanished() | Unknown() as state:
                    states[identity] = state
        return states

    def _compare_rows(
        self, recorded: Anchor, current: Anchor, node: RecipeNode, record: TableRecord
    ) -> State:
        """The current state of an input; the recorded one if it changed but the rows read of it are
        equal: of a table but for rounding, of a source without order, so this is done only for
        statements that do not depend on row order. The columns read must be the same."""
        if (
            recorded.same_state(current)
            or (recorded.columns, recorded.types) != (current.columns, current.types)
            or not recorded.same_server_types(current)
        ):
            return current
        label = recorded.input.label
        if recorded.input.kind_class.is_result and recorded.schema:
            versions = self._differences.versions(recorded, node.tenant)
            if versions and self.observation.is_equal_but_for_rounding(*versions, recorded.columns):
                return recorded.with_values(note=f"{label} is {BUT_FOR_ROUNDING}", rounding=True)
            return current
        if record.order_sensitive:
            return current
        is_equal = self.observation.has_same_rows(recorded, node.tenant)
        if isinstance(is_equal, Unknown):
            return is_equal
        if not is_equal:
            return current
        return recorded.with_values(note=f"{label} has other bytes and equal rows")

    def observe(self, anchor: Anchor, tenant: str | None) -> Observed:
        """The state of an input: result tables from the graph, anything else from the observation
        pass."""
        if anchor.input.kind_class.is_result:
            node = self.graph.find(anchor.input.name, tenant)
            if node is not None:
                return (
                    result_snapshot(node.record, node.version.version)
                    if node.record and node.version
                    else Vanished()
                )
        return self.observation.observe(anchor.input, tenant)

    def basis(self, node: RecipeNode, reads: Iterable[str]) -> dict[Identity, object]:
        """What computing a recipe rests on now, by input: its own definition, the definitions and
        newest tables of the recipes that it `reads`, and the states of its other inputs over the
        columns that the node's version read."""
        own = self.graph.find(node.name, node.tenant)
        found: dict[Identity, object] = {
            result_input(node.name).identity: own and own.recipe and own.recipe.definition_hash
        }
        for name in reads:
            recipe = self.graph.find(name, node.tenant)
            found[result_input(name).identity] = recipe and state_of_recipe(recipe)
        for anchor in node.record.anchors if node.record is not None else []:
            of_recipe = anchor.input.kind_class.is_result and self.graph.find(
                anchor.input.name, node.tenant
            )
            if not anchor.pinned or anchor.is_given or of_recipe:
                continue
            state = self.observe(anchor, node.tenant)
            found[anchor.input.identity] = (
                state.anchor(anchor.input, anchor.columns) if isinstance(state, Snapshot) else state
            )
        return found

    def _observe_over(
        self, anchor: Anchor, columns: tuple[str, ...] | None, tenant: str | None
    ) -> Observed:
        """The state of an input over columns that were not observed yet."""
        over_columns = anchor.input.with_values(columns=tuple(sorted(columns or ())))
        return self.observation.observe(over_columns, tenant, all_columns=columns is None)

    def _is_exact(self, anchor: Anchor, tenant: str | None) -> bool:
        """Whether an input is a version by number, which is that of another recipe when its name is
        another's today."""
        source = anchor.input
        return source.kind_class.is_result and self.graph.find(source.name, tenant) is None

    def _columns_read_today(
        self, node: RecipeNode, record: TableRecord, observed: Mapping[Identity, Observed]
    ) -> tuple[dict[Identity, tuple[str, ...] | None], bool]:
        """The columns of each input that the table's definition reads today (None: all columns),
        and whether the definition's meaning is unchanged. A definition that no longer binds is
        assumed to read all columns of the recorded inputs."""
        descriptor = (
            node.recipe.descriptor
            if node.recipe and node.recipe.definition_hash == record.definition_hash
            else None
        )
        everything: dict[Identity, tuple[str, ...] | None] = {
            a.input.identity: None for a in record.anchors
        }
        try:
            if descriptor is None:
                manifest = self._manifest(record)
                if manifest is None:
                    return everything, False
                descriptor = manifest.descriptor
            with self._scope.use(node.tenant):
                today = self._recorded.current_inputs(descriptor)
        except TableNotFound:
            # of inputs that are all there, the number of a version is gone: its table is another's
            are_there = all(isinstance(state, Snapshot) for state in observed.values())
            return {} if are_there else everything, False
        except (JammiError, ValueError):
            return everything, False
        if today is None:
            return everything, True
        inputs, same_meaning = today
        merged: dict[Identity, set[str]] = {}
        for read in inputs:
            merged.setdefault(read.relation.input.identity, set()).update(read.columns)
        return {i: tuple(sorted(columns)) for i, columns in merged.items()}, same_meaning


def state_of_recipe(node: RecipeNode) -> object:
    """The definition of a recipe and the digest of its newest table."""
    definition = None if node.recipe is None else node.recipe.definition_hash
    return node.key, definition, None if node.record is None else node.record.digest


def is_same_basis(former: object, current: object) -> bool:
    """Whether a part of `EvaluatedGraph.basis` is as before."""
    if isinstance(former, Anchor) and isinstance(current, Anchor):
        return former.same_state(current)
    if isinstance(former, Vanished | Unknown):
        return type(former) is type(current)
    return former == current


def frames_of_tables(node: RecipeNode) -> Mapping[str, str]:
    """By the folded name of a table, the frame of the notebook that was it when the statement of
    the node was stored."""
    frames: Mapping[str, str] = {}
    if node.recipe is not None:
        frames = node.recipe.descriptor.get("frames", frames)
    return frames
