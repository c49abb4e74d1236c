"""Graphs and points in time: the verbs of a workspace that derive tables from embedding tables, and join facts as of a time."""

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from jammi_lab.handles import ResultTable
from jammi_lab.making import Made, Making, names_of
from jammi_lab.sensing.reports import OnProgress

if TYPE_CHECKING:
    from jammi_lab.producers.base import Job


class Deriving(Making):
    """The part of a Workspace that makes tables of tables with vectors or times."""

    @overload
    def neighbor_graph(
        self,
        name: str,
        table: str | ResultTable,
        *,
        k: int = 10,
        min_similarity: float | None = None,
        mutual: bool = False,
        exact: bool | None = None,
        **made: Unpack[Made],
    ) -> ResultTable: ...

    @overload
    def neighbor_graph(
        self,
        name: str,
        table: str | ResultTable,
        *,
        k: int = 10,
        min_similarity: float | None = None,
        mutual: bool = False,
        exact: bool | None = None,
        define_only: Literal[True],
    ) -> None: ...

    def neighbor_graph(
        self,
        name: str,
        table: str | ResultTable,
        *,
        k: int = 10,
        min_similarity: float | None = None,
        mutual: bool = False,
        exact: bool | None = None,
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
        define_only: bool = False,
    ) -> ResultTable | None:
        """Join each row of an embedding table with the `k` rows most similar to it: columns src, dst, rank (from 1), similarity (float32).

        Never with itself; ties come in ascending order of dst; rows are ordered by src and rank. `min_similarity` leaves out edges below it and
        `mutual` those whose reverse is not among the `k` of dst; ranks stay those of the whole list. `exact` compares every pair, `False` asks the
        index, None compares where the table has no more rows than the setting `vectors.exact_max_rows` or the index would be no help. Raises
        TableNotFound; SchemaMismatch for a table without vectors; InvalidArgument for k < 0; DependencyCycle; KeyboardInterrupt, which leaves nothing
        behind.
        """
        job = self._rooms.producers.neighbors.job(name, self._said(table), k, min_similarity, mutual=mutual, exact=exact)
        return self._derived(name, job, cache, refresh, progress, define_only=define_only)

    @overload
    def propagate(
        self,
        name: str,
        table: str | ResultTable,
        edges: str | ResultTable,
        *,
        hops: int = 2,
        alpha: float = 0.1,
        direction: Literal["out", "in", "both"] = "out",
        weighting: Literal["uniform", "similarity"] = "uniform",
        output: Literal["final", "concat"] = "final",
        **made: Unpack[Made],
    ) -> ResultTable: ...

    @overload
    def propagate(
        self,
        name: str,
        table: str | ResultTable,
        edges: str | ResultTable,
        *,
        hops: int = 2,
        alpha: float = 0.1,
        direction: Literal["out", "in", "both"] = "out",
        weighting: Literal["uniform", "similarity"] = "uniform",
        output: Literal["final", "concat"] = "final",
        define_only: Literal[True],
    ) -> None: ...

    def propagate(
        self,
        name: str,
        table: str | ResultTable,
        edges: str | ResultTable,
        *,
        hops: int = 2,
        alpha: float = 0.1,
        direction: Literal["out", "in", "both"] = "out",
        weighting: Literal["uniform", "similarity"] = "uniform",
        output: Literal["final", "concat"] = "final",
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
        define_only: bool = False,
    ) -> ResultTable | None:
        """Mix each vector of an embedding table with those of its neighbours: an embedding table with columns key, vector (float32).

        Each of 1 to 3 `hops` takes the share 1 − `alpha` from the neighbours and `alpha` from the row's own first vector. `edges` is a table,
        source or SQL with the columns src and dst, and similarity for `weighting="similarity"`; `direction` says whether a row takes from where its
        edges lead ("out"), from where they come ("in") or both. "uniform" is the mean of the row and its neighbours, "similarity" the weighted mean
        of the neighbours. `output="concat"` puts the vectors of all hops beside each other, each of unit length. Edges with an end that is no row are
        left out and counted in the manifest. Raises TableNotFound; SchemaMismatch, also when vectors cancel out; InvalidArgument; DependencyCycle.
        """
        job = self._rooms.producers.propagation.job(
            name, self._said(table), self._said(edges), hops, alpha, direction=direction, weighting=weighting, output=output
        )
        return self._derived(name, job, cache, refresh, progress, define_only=define_only)

    @overload
    def context_set(
        self,
        name: str,
        table: str | ResultTable,
        *,
        members: str | ResultTable,
        pool: Literal["mean", "sum", "max"] = "mean",
        **made: Unpack[Made],
    ) -> ResultTable: ...

    @overload
    def context_set(
        self,
        name: str,
        table: str | ResultTable,
        *,
        members: str | ResultTable,
        pool: Literal["mean", "sum", "max"] = "mean",
        define_only: Literal[True],
    ) -> None: ...

    def context_set(
        self,
        name: str,
        table: str | ResultTable,
        *,
        members: str | ResultTable,
        pool: Literal["mean", "sum", "max"] = "mean",
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
        define_only: bool = False,
    ) -> ResultTable | None:
        """Pool the vectors of the members of each target into one: an embedding table with columns key (the target), vector (float32).

        `members` is a table, source or SQL with the columns target and member, keys of the embedding table; a member listed twice counts once, one
        without a vector not at all (the manifest counts them), and a target without any known member is left out. Raises TableNotFound;
        SchemaMismatch for members of another type, a missing target or vectors that cancel out; InvalidArgument; DependencyCycle.
        """
        job = self._rooms.producers.context.job(name, self._said(table), self._said(members), pool)
        return self._derived(name, job, cache, refresh, progress, define_only=define_only)

    @overload
    def projection(
        self,
        name: str,
        table: str | ResultTable,
        *,
        method: Literal["pca", "tsne"] = "pca",
        perplexity: float = 30.0,
        seed: int = 0,
        **made: Unpack[Made],
    ) -> ResultTable: ...

    @overload
    def projection(
        self,
        name: str,
        table: str | ResultTable,
        *,
        method: Literal["pca", "tsne"] = "pca",
        perplexity: float = 30.0,
        seed: int = 0,
        define_only: Literal[True],
    ) -> None: ...

    def projection(
        self,
        name: str,
        table: str | ResultTable,
        *,
        method: Literal["pca", "tsne"] = "pca",
        perplexity: float = 30.0,
        seed: int = 0,
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
        define_only: bool = False,
    ) -> ResultTable | None:
        """Place the rows of an embedding table in a plane, for a map that is kept: columns key, x, y (float32), in key order.

        "pca" takes the two directions in which the vectors differ most. "tsne" puts rows that are alike together: each near to about `perplexity`
        others, at most a third of all the others, beginning at the components with `seed`; fewer than five rows are placed as by "pca". Its result
        hangs on the release of scikit-learn, which is part of the definition. Raises TableNotFound; SchemaMismatch for a table without vectors;
        InvalidArgument; ExtensionMissing for "tsne" without the extra `maps`; DependencyCycle; KeyboardInterrupt, which leaves nothing behind.
        """
        job = self._rooms.producers.projection.job(name, self._said(table), method, perplexity, seed)
        return self._derived(name, job, cache, refresh, progress, define_only=define_only)

    @overload
    def asof_join(
        self,
        name: str,
        spine: str | ResultTable,
        facts: str | ResultTable,
        *,
        spine_time: str,
        facts_time: str,
        by: str | Sequence[str | tuple[str, str]] = (),
        direction: Literal["backward", "forward", "nearest"] = "backward",
        boundary: Literal["inclusive", "exclusive"] = "inclusive",
        tolerance: datetime.timedelta | int | None = None,
        tie_break: str | None = None,
        project: str | Sequence[str] | None = None,
        **made: Unpack[Made],
    ) -> ResultTable: ...

    @overload
    def asof_join(
        self,
        name: str,
        spine: str | ResultTable,
        facts: str | ResultTable,
        *,
        spine_time: str,
        facts_time: str,
        by: str | Sequence[str | tuple[str, str]] = (),
        direction: Literal["backward", "forward", "nearest"] = "backward",
        boundary: Literal["inclusive", "exclusive"] = "inclusive",
        tolerance: datetime.timedelta | int | None = None,
        tie_break: str | None = None,
        project: str | Sequence[str] | None = None,
        define_only: Literal[True],
    ) -> None: ...

    def asof_join(
        self,
        name: str,
        spine: str | ResultTable,
        facts: str | ResultTable,
        *,
        spine_time: str,
        facts_time: str,
        by: str | Sequence[str | tuple[str, str]] = (),
        direction: Literal["backward", "forward", "nearest"] = "backward",
        boundary: Literal["inclusive", "exclusive"] = "inclusive",
        tolerance: datetime.timedelta | int | None = None,
        tie_break: str | None = None,
        project: str | Sequence[str] | None = None,
        cache: Literal["use", "bypass"] = "use",
        refresh: Literal["no", "inputs"] = "no",
        progress: OnProgress = None,
        define_only: bool = False,
    ) -> ResultTable | None:
        """Give each row of `spine` the row of `facts` that was known at its time: its own columns, then those of the fact. Every row of the spine
        stays, in its order.

        Both are a table, source or SQL. `by`: columns that must be equal, common names or (spine, facts) pairs. The fact is the last one until the
        spine's time ("backward"), the first one from it on ("forward"), or the nearest (of two as near the earlier); an "exclusive" boundary leaves
        out a fact of that very time. `tolerance`, how far at most: a timedelta for times, a whole number for integers. Of several facts of one time
        the one with the greatest `tie_break` counts. `project`: the columns of the facts, by default all but `by`; one that is called as a column of
        the spine becomes `<name>_facts`. NULL in a time or in `by` matches nothing.

        Raises AmbiguousMatch (a ValueError) for facts of one time that nothing tells apart, SchemaMismatch for times or `by` of kinds that do not
        compare (floats are no times; with and without a zone do not mix), InvalidArgument, TableNotFound, DependencyCycle.
        """
        job = self._rooms.producers.asof.job(
            name,
            self._said(spine),
            self._said(facts),
            (spine_time, facts_time),
            names_of(by),
            tolerance=tolerance,
            tie_break=tie_break,
            project=None if project is None else names_of(project),
            direction=direction,
            boundary=boundary,
        )
        return self._derived(name, job, cache, refresh, progress, define_only=define_only)

    def _said(self, table: str | ResultTable) -> str:
        """The name of a table: a recipe's for its newest version, else that of the one table."""
        return (self._naming.spelt(table) or "") if isinstance(table, ResultTable) else table

    def _derived(
        self, name: str, job: "Job", cache: Literal["use", "bypass"], refresh: Literal["no", "inputs"], progress: OnProgress, *, define_only: Any
    ) -> ResultTable | None:
        if define_only:
            self._define(name, job)
            return None
        return self._make(name, job, cache, refresh, progress)
