"""The producer `embedding`: the texts of a table become vectors; texts that an earlier version or a checkpoint knows are not encoded again."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jammi_lab.embedders.base import Encoder, EncoderIdentity, identity_of
from jammi_lab.embedders.registry import Encoders
from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.engine.tokens import all_tokens, one_expression
from jammi_lab.errors import InvalidArgument, JammiError, SchemaMismatch, SqlError
from jammi_lab.execution.executor import Executor
from jammi_lab.names import fold, quote
from jammi_lab.producers.addresses import address
from jammi_lab.producers.base import Bound, Job, OnProgress, Running
from jammi_lab.producers.encoding import Earlier, Embedding, Memory
from jammi_lab.producers.inputs import column_of
from jammi_lab.producers.sql import environment as sql_environment
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Unknown
from jammi_lab.values.descriptors import EmbeddingDescriptor, definition_hash
from jammi_lab.values.records import TableKind

REVISION = 1
"""Raised when equal texts through an equal encoder would give other rows than before: how texts are joined, how rows are laid out."""
_NO_KEYS = re.compile(r"\]$|^(STRUCT|MAP|UNION|INTERVAL|VARIANT|BIT\b)")
"""SQL types whose values have no order of their own, or none that Parquet gives back."""
_TEXT = re.compile(r"VARCHAR$|ENUM\(")


class EmbeddingProducer:
    """Binds tables with texts to encoders."""

    def __init__(self, engine: Engine, scope: TenantScope, encoders: Encoders, memory: Memory, executor: Executor) -> None:
        self._engine, self._scope, self._encoders, self._memory, self._executor = engine, scope, encoders, memory, executor

    def job(
        self,
        name: str,
        asked: str,
        key: str,
        text: Sequence[str],
        model: Any,
        where: str | None = None,
        *,
        afresh: bool = False,
        extra: Sequence[Provider] = (),
    ) -> Job:
        """The texts of a source, table or SQL as a job for the recipe `name`; `afresh` takes no vector over from an earlier version.

        Raises InvalidArgument, ModelNotFound, TableNotFound, SchemaMismatch, and what binding a statement raises.
        """
        _check_columns(key, text)
        meant = self._encoders.meant(model)
        columns = ", ".join(map(quote, _columns(key, text)))
        condition = "" if where is None else f"\nWHERE (\n{one_expression(where)}\n)"
        # the order is said, since a plan that keeps the order of its input would not be sorted by the key
        place = self.address(asked, extra)
        statement = f"SELECT {columns} FROM {place}{condition}\nORDER BY {quote(key)}"
        try:
            return self._bound(name, statement, asked, key, list(text), meant, afresh, extra)
        except SqlError as error:
            raise self._lacking(asked, place, _columns(key, text), extra) or error from None

    def from_descriptor(self, name: str, descriptor: EmbeddingDescriptor, extra: Sequence[Provider] = ()) -> Job:
        """A recorded definition as a job over the inputs as they are now. ModelNotFound when the encoder is not in this kernel."""
        encoder = self._meant(descriptor.encoder)
        meant = encoder, self._encoders.key_of(encoder)
        return self._bound(name, descriptor.statement, descriptor.asked, descriptor.key, descriptor.text, meant, False, extra)

    def bound_today(self, descriptor: EmbeddingDescriptor, extra: Sequence[Provider] = ()) -> tuple[list[Bound], bool]:
        """What a recorded definition reads today, and whether its statement still says the same; needs no encoder. Raises as binding does."""
        [prepared] = self._engine.prepare(descriptor.statement, tenant=self._scope.current, extra=extra)
        return [Bound(b.relation, b.columns) for b in prepared.inputs], prepared.canonical() == descriptor.canonical

    def identity_today(self, recorded: Mapping[str, Any]) -> dict[str, Any] | Unknown:
        """The identity of the encoder that a recorded one's name and version mean today. Of one that is not in this kernel the recorded one, unless
        another kernel registered the model otherwise since: what it would be here cannot be told."""
        try:
            return identity_of(self._meant(recorded)).to_dict()
        except JammiError:
            if not self._encoders.replaced(msgspec.convert(recorded, EncoderIdentity)):
                return dict(recorded)
        return Unknown(f"the model {recorded['name']!r} was registered again since, with other weights or settings, and is not in this kernel")

    def hindrance(self, recorded: Mapping[str, Any]) -> str | None:
        """Why the encoder of a recorded definition cannot run in this kernel, one sentence; None when it can."""
        try:
            self._meant(recorded)
        except JammiError as error:
            return error.message
        return None

    def _meant(self, recorded: Mapping[str, Any]) -> Encoder:
        """The encoder that a recorded identity means today: the very one, else what its name and version mean. ModelNotFound."""
        return self._encoders.exact(msgspec.convert(recorded, EncoderIdentity)) or self._encoders.get(recorded["name"], recorded["version"])

    def environment(self) -> dict[str, Any]:
        """What else shapes the rows."""
        return {"revision": REVISION, "select": sql_environment(self._engine)}

    def _lacking(self, asked: str, place: str, columns: Sequence[str], extra: Sequence[Provider]) -> SchemaMismatch | None:
        """What is wrong when a table lacks a column that was named; binding would show a statement that nobody wrote."""
        try:
            [prepared] = self._engine.prepare(f"SELECT * FROM {place}", tenant=self._scope.current, extra=extra)
            for column in columns:
                column_of(asked, [name for name, _ in prepared.output], column)
        except SchemaMismatch as error:
            return error
        except JammiError:  # the text itself is wrong, and that was said already
            return None
        return None

    def _bound(
        self,
        name: str,
        statement: str,
        asked: str,
        key: str,
        text: list[str],
        meant: tuple[Encoder, str | None],
        afresh: bool,
        extra: Sequence[Provider],
    ) -> Job:
        encoder, model_key = meant
        [prepared] = self._engine.prepare(statement, tenant=self._scope.current, extra=extra)
        places = _places(prepared, key, text)
        descriptor = EmbeddingDescriptor(
            statement=statement, canonical=prepared.canonical(), asked=asked, key=key, text=text, encoder=identity_of(encoder).to_dict()
        )
        environment = self.environment()

        def rows(on_progress: OnProgress | None) -> Running:
            checkpoint = self._memory.checkpoint(definition_hash(descriptor, environment), [b.relation for b in prepared.inputs])
            if afresh:
                checkpoint.remove()
            earlier = Earlier() if afresh else self._memory.earlier(name, descriptor.encoder)
            made = Embedding(prepared, places, encoder, earlier, checkpoint, name, key, self._executor)
            made.run(on_progress)
            counts = made.reuse.counts if made.reuse else {}
            return Running(made, made.reuse, made.published, made.lost, made.witnesses, counts)

        return Job(
            kind=TableKind.EMBEDDING,
            descriptor=descriptor,
            environment=environment,
            inputs=[Bound(b.relation, b.columns) for b in prepared.inputs],
            rows=rows,
            again=lambda: self._bound(name, statement, asked, key, text, meant, afresh, extra),
            key=["key"],
            volatile=prepared.volatile,
            clock=prepared.clock,
            order_sensitive=prepared.order_sensitive,
            dimensions=encoder.dimensions,
            model_id=encoder.name,
            model_key=model_key,  # of the model as it was found: a delete since then is to be seen when the table begins
        )

    def address(self, asked: str, extra: Sequence[Provider] = ()) -> str:
        """What FROM says for a source name, `source.table`, a recipe, or SQL in brackets. TableNotFound; StatementNotAllowed; InvalidArgument."""
        return address(self._engine, self._scope.current, asked, extra, to="to embed")


def address_of(descriptor: Mapping[str, Any]) -> str:
    """What FROM says in the statement of a recorded embedding."""
    columns = ", ".join(map(quote, _columns(descriptor["key"], descriptor["text"])))
    rest = str(descriptor["statement"]).removeprefix(f"SELECT {columns} FROM ")
    if not rest.startswith("("):
        named = re.match(r'"(?:[^"]|"")*"(?:\."(?:[^"]|"")*")*', rest)
        return named[0] if named else rest
    depth = 0
    for at, body in all_tokens(rest):
        depth += (body[:1] == b"(") - (body[:1] == b")")
        if depth == 0:
            return rest.encode()[: at + 1].decode()
    return rest


def _check_columns(key: str, text: Sequence[str]) -> None:
    if not isinstance(key, str) or not key:
        raise InvalidArgument(
            f"The key of an embedding is one column, not {key!r}.", hint="Join several in SQL: SELECT a || '/' || b AS id, … FROM …"
        )
    if not text:
        raise InvalidArgument("An embedding needs at least one text column.", hint='Name it: text=["title"].')
    if wrong := [t for t in text if not isinstance(t, str) or not t]:
        raise InvalidArgument(f"A text column is a name, not {wrong[0]!r}.")


def _columns(key: str, text: Sequence[str]) -> list[str]:
    """The columns that are read, each once, the key first."""
    seen = {fold(key): key}
    for column in text:
        seen.setdefault(fold(column), column)
    return list(seen.values())


def _places(prepared: Prepared, key: str, text: Sequence[str]) -> list[int]:
    """Where in the output the texts are. SchemaMismatch for a column that is no text and a key without an order."""
    by_fold = {fold(column): place for place, column in enumerate(_columns(key, text))}
    name, kind = prepared.output[0]
    if _NO_KEYS.search(kind):
        raise SchemaMismatch(
            f"The key {name!r} is {kind}, which cannot be a key.", column=name, expected="a number, text, date or the like", actual=kind
        )
    places = [by_fold[fold(column)] for column in text]
    for place in places:
        name, kind = prepared.output[place]
        if not _TEXT.match(kind):
            raise SchemaMismatch(
                f"The text column {name!r} is {kind}, not text.",
                column=name,
                expected="VARCHAR",
                actual=kind,
                hint=f"Cast it in SQL: SELECT …, {quote(name)}::VARCHAR AS {quote(name)} FROM …",
            )
    return places
