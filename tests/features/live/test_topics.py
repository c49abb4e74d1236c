"""Topics: a log of batches that loses nothing, invents nothing, and is read from any place on."""

import asyncio
import datetime
import itertools
import threading
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.catalog.logs import entries_table
from jammi_lab.core.errors import (
    DuplicateTable,
    InvalidArgument,
    JammiError,
    NameInvalid,
    NameTooLong,
    SchemaMismatch,
    SqlError,
    StatementNotAllowed,
    TableDamaged,
    TopicNotFound,
)
from tests.cases import cases, lines
from tests.features.live.loops import in_a_loop
from tests.inside import services_of

_numbers = itertools.count()
SCHEMA = {"id": "int64", "word": "string"}


def rows(*ids):
    return [{"id": i, "word": f"word {i}"} for i in ids]


def ids(events):
    return [(e.offset, e.batch.column("id").to_pylist()) for e in events]


@pytest.fixture
def events(ws):
    ws.topics.register("events", SCHEMA)
    return ws.topics


@pytest.fixture
def other(ws, tmp_path):
    """A second handle of the same workspace, as another kernel has it."""
    with jl.open(tmp_path / "lab") as workspace:
        yield workspace


def test_a_batch_a_table_a_frame_and_dicts_are_each_one_event(events):
    import polars as pl

    batch = pa.RecordBatch.from_pylist(
        rows(1, 2), pa.schema([("id", pa.int64()), ("word", pa.string())])
    )
    table = pa.concat_tables([pa.Table.from_batches([batch]), pa.Table.from_batches([batch])])
    for each in (batch, table, pl.DataFrame(rows(7)), rows(8, 9), []):
        events.publish("events", each)
    found = list(events.replay("events"))
    assert ids(found) == [(0, [1, 2]), (1, [1, 2, 1, 2]), (2, [7]), (3, [8, 9]), (4, [])]
    assert {type(e.batch) for e in found} == {pa.RecordBatch}
    assert {e.batch.schema for e in found} == {batch.schema}


def test_replay_starts_where_it_is_told_and_ends_with_what_was_there(events):
    for i in range(4):
        events.publish("events", rows(i))
    for wrong in (-1, 1.5, True, "0"):
        with pytest.raises(InvalidArgument, match="offset"):
            events.replay("events", from_offset=wrong)
        with pytest.raises(InvalidArgument, match="offset"):
            events.subscribe("events", from_offset=wrong)
    replay = events.replay("events", from_offset=2)
    events.publish("events", rows(4))
    assert ids(replay) == [(2, [2]), (3, [3])]
    assert ids(events.replay("events", from_offset=99)) == []


@pytest.mark.parametrize(
    ("batch", "column"),
    [
        ([{"id": "x", "word": "a"}], "id"),
        ([{"id": 1, "wrd": "a"}], "wrd"),
        (pa.table({"id": [1]}), "word"),
        (pa.table({"id": [1.5], "word": ["a"]}), "id"),
        (pa.table({"id": [1], "word": ["a"], "more": [1]}), "more"),
        ([{"id": 2**70}], "id"),
    ],
)
def test_rows_of_another_schema_write_nothing(events, batch, column):
    events.publish("events", rows(1))
    with pytest.raises(SchemaMismatch) as caught:
        events.publish("events", batch)
    assert caught.value.column == column
    assert events["events"].next_offset == 1
    assert ids(events.replay("events")) == [(0, [1])]


def test_null_goes_where_the_schema_lets_it(ws):
    ws.topics.register("strict", pa.schema([pa.field("id", pa.int64(), nullable=False)]))
    with pytest.raises(SchemaMismatch, match="cannot be NULL"):
        ws.topics.publish("strict", [{"id": None}])
    assert ws.topics.publish("strict", [{"id": 1}]) == 0


@pytest.mark.parametrize("wrong", [{"id": 1}, 5, "rows", [1], None])
def test_what_is_no_batch_is_refused(events, wrong):
    with pytest.raises(InvalidArgument):
        events.publish("events", wrong)
    assert events["events"].next_offset == 0


def test_a_schema_that_cannot_be_is_refused(ws):
    for schema, error in (
        ({}, SchemaMismatch),
        ({"a": "nope"}, SchemaMismatch),
        ({"a": "int64", "A": "string"}, NameInvalid),
        ({"_offset": "int64"}, NameInvalid),
        ({"": "int64"}, NameInvalid),
        ("int64", InvalidArgument),
        (pa.schema([("u", pa.dense_union([pa.field("a", pa.int64())]))]), SchemaMismatch),
    ):
        with pytest.raises(error):
            ws.topics.register("t", schema)
        assert len(ws.topics) == 0


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", NameInvalid),
        ("x" * 300, NameTooLong),
        ("a\0b", NameInvalid),
        ("jammi.audit.x", NameInvalid),
        ("Jammi.y", NameInvalid),
    ],
)
def test_a_name_that_cannot_be_is_refused(ws, name, error):
    with pytest.raises(error):
        ws.topics.register(name, SCHEMA)


def test_registering_again_is_fine_with_the_same_schema_and_refused_with_another(events):
    events.publish("events", rows(1))
    assert events.register("Events", SCHEMA).next_offset == 1
    with pytest.raises(DuplicateTable, match="other columns"):
        events.register("events", {"id": "string"})


def test_a_missing_topic_is_typed_with_near_names(events):
    for use in (
        lambda: events.publish("evnts", rows(1)),
        lambda: events.replay("evnts"),
        lambda: events.subscribe("evnts"),
        lambda: events.drop("evnts"),
        lambda: events["evnts"],
        lambda: events.tail("evnts"),
    ):
        with pytest.raises(TopicNotFound) as caught:
            use()
        assert caught.value.near == ("events",)
    events.drop("evnts", if_exists=True)


def test_a_replay_whose_topic_is_dropped_meanwhile_says_so_and_does_not_just_end(
    events, monkeypatch
):
    monkeypatch.setattr("jammi_lab.features.live.subscriptions.FIRST_BATCH_COUNT", 2)
    for i in range(5):
        events.publish("events", rows(i))
    replayed = events.replay("events")
    assert next(replayed).offset == 0
    events.drop("events")
    with pytest.raises(TopicNotFound, match="no longer exists"):
        list(replayed)


# -- following -------------------------------------------------------------------------------------


def test_a_follower_crosses_from_replay_to_live_without_a_gap(events, other):
    done = threading.Event()

    def write():
        for i in range(300):
            (events if i % 2 else other.topics).publish("events", rows(i))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    taken = []
    with events.subscribe("events", from_offset=0, timeout=5) as following:
        for event in following:
            taken.append(event.offset)
            if len(taken) == 300:
                break
    writer.join()
    assert taken == list(range(300))


def test_without_an_offset_only_later_events_come(events):
    events.publish("events", rows(1))
    following = events.subscribe("events", timeout=0.5)
    events.publish("events", rows(2))
    assert ids(following) == [(1, [2])]


def test_a_slow_consumer_loses_nothing(ws, events):
    following = events.subscribe("events", timeout=0.2)
    events.publish("events", rows(0))
    assert next(following).offset == 0
    with services_of(ws).catalog.transaction():
        for i in range(1, 700):
            events.publish("events", rows(i))
    assert [e.offset for e in following] == list(range(1, 700))


def test_it_ends_when_nothing_came_for_the_time_out(events, ws):
    began = services_of(ws).clock.monotonic()
    assert list(events.subscribe("events", timeout=0.15)) == []
    assert 0.14 < services_of(ws).clock.monotonic() - began < 2
    with pytest.raises(InvalidArgument):
        events.subscribe("events", timeout=-1)


def test_events_without_a_matching_row_do_not_hold_a_time_out_up(events):
    following = events.subscribe("events", where="id < 0", timeout=0.3)
    stop = threading.Event()

    def write():
        while not stop.wait(0.05):
            events.publish("events", rows(1))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert list(following) == []
    finally:
        stop.set()
        writer.join()


def test_closing_the_workspace_ends_its_followers(tmp_path):
    ws = jl.open(tmp_path / "other")
    ws.topics.register("events", SCHEMA)
    following, ended = ws.topics.subscribe("events"), []
    thread = threading.Thread(target=lambda: ended.append(list(following)))
    thread.start()
    ws.close()
    thread.join(5)
    assert ended == [[]]


def test_dropping_the_topic_ends_its_followers_with_an_error(events):
    following = events.subscribe("events", timeout=5)
    events.drop("events")
    events.register("events", SCHEMA)
    with pytest.raises(TopicNotFound):
        next(following)


def test_a_follower_can_be_awaited(events):
    async def follow():
        async with events.subscribe("events", from_offset=0, timeout=0.5) as following:
            return [event.offset async for event in following]

    async def both():
        task = asyncio.create_task(follow())
        for i in range(3):
            await asyncio.to_thread(events.publish, "events", rows(i))
            await asyncio.sleep(0.01)
        return await task

    assert in_a_loop(both()) == [0, 1, 2]


def test_a_task_that_awaits_an_event_can_be_cancelled(events):
    async def run():
        task = asyncio.create_task(events.subscribe("events").__anext__())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_a_loop(run())


@pytest.mark.parametrize("where", [None, "id >= 0"])
def test_a_wait_that_is_cancelled_while_an_event_is_fetched_neither_loses_nor_doubles_it(
    events, where
):
    for i in range(3):
        events.publish("events", rows(i))
    following = events.subscribe("events", from_offset=0, timeout=0.5, where=where)
    some = following._reader.read_batch

    def slowly(*how):
        time.sleep(0.2)
        return some(*how)

    following._reader.read_batch = slowly

    async def run():
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(following.__anext__(), 0.05)
        first = await following.__anext__()
        assert following.offset == 1
        return [first.offset, *[event.offset async for event in following]]

    assert in_a_loop(run()) == [0, 1, 2]
    assert following.offset == 3


# -- conditions ------------------------------------------------------------------------------------

VALUES = [
    {"id": 1, "word": "alpha"},
    {"id": 2, "word": None},
    {"id": None, "word": "Beta"},
    {"id": 4, "word": "50%"},
]


@pytest.mark.parametrize(
    ("where", "found"),
    cases("statements/conditions_of_topics", "where", "found"),
)
def test_a_condition_delivers_the_rows_that_satisfy_it(events, where, found):
    events.publish("events", VALUES)
    events.publish("events", rows(500))
    events.publish("events", VALUES)
    taken = [
        (e.offset, [i for i in e.batch.column("id").to_pylist() if i != 500])
        for e in events.replay("events", where=where)
    ]
    assert [t for t in taken if t[1]] == ([(0, found), (2, found)] if found else [])


@pytest.mark.parametrize(
    "where",
    lines("statements/wheres_of_topics.sql"),
)
def test_a_condition_that_looks_beyond_its_row_is_refused(events, where):
    for read in (events.replay, events.subscribe):
        with pytest.raises((StatementNotAllowed, SqlError)):
            read("events", where=where)


@pytest.mark.parametrize(
    ("where", "said"),
    cases("statements/wheres_refused", "where", "said"),
)
def test_a_condition_that_does_not_bind_says_so_at_once(events, where, said):
    with pytest.raises(SqlError, match=said) as caught:
        events.replay("events", where=where)
    assert "__jammi" not in str(caught.value)


@given(
    st.lists(st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=6), max_size=8),
    st.integers(-3, 3),
)
def test_a_condition_keeps_exactly_the_rows_that_a_filter_would(ws, batches, bound):
    name = f"n{next(_numbers)}"
    ws.topics.register(name, {"id": "int64"})
    with services_of(ws).catalog.transaction():
        for each in batches:
            ws.topics.publish(name, [{"id": i} for i in each])
    expected = [
        (at, kept)
        for at, each in enumerate(batches)
        if (kept := [i for i in each if i is not None and i >= bound])
    ]
    assert ids(ws.topics.replay(name, where=f"id >= {bound}")) == expected


# -- what may go wrong -----------------------------------------------------------------------------


def test_an_event_that_is_not_what_was_published_is_damage(ws, events):
    events.publish("events", rows(1))
    table = entries_table(events["events"]._record.log_id)
    with services_of(ws).catalog.database.write() as tx:
        [[body]] = tx.fetch(f"SELECT body FROM {table}")
        tx.execute(f"UPDATE {table} SET body = :body", {"body": bytes([*body[:-1], body[-1] ^ 1])})
    assert ws.fsck(deep=True).damaged == ["topics.events"]
    with pytest.raises(TableDamaged, match="entry 0"):
        list(events.replay("events"))


def test_a_read_only_workspace_reads_and_does_not_publish(tmp_path, events):
    events.publish("events", rows(1))
    with jl.open(tmp_path / "lab", read_only=True) as reader:
        assert ids(reader.topics.replay("events", where="id = 1")) == [(0, [1])]
        with pytest.raises(JammiError):
            reader.topics.publish("events", rows(2))


# -- tenants ---------------------------------------------------------------------------------------


def test_a_stream_that_was_opened_in_a_scope_stays_the_tenants(ws):
    for tenant in ("a", "b"):
        with ws.tenant(tenant):
            ws.topics.register("events", SCHEMA)
    with ws.tenant("a"):
        following, replay = (
            ws.topics.subscribe("events", from_offset=0, timeout=0, where="id > 0"),
            ws.topics.replay("events"),
        )
        ws.topics.publish("events", rows(1))
    with ws.tenant("b"):
        ws.topics.publish("events", rows(2))
        assert ids(following) == [(0, [1])]
        assert ids(replay) == []


def test_lengths_of_time_are_seconds_or_timedeltas(events):
    assert list(events.subscribe("events", timeout=datetime.timedelta(milliseconds=10))) == []
    for length in (True, "1", float("nan"), -1, datetime.timedelta(seconds=-1)):
        with pytest.raises(InvalidArgument, match="a timedelta or a number of seconds, at least 0"):
            events.subscribe("events", timeout=length)


def test_dates_that_python_does_not_have_are_shown(ws):
    ws.topics.register("far", {"on": "date32"})
    ws.topics.publish("far", pa.table({"on": pa.array([2_932_897], pa.date32())}))
    assert "10000-01-01" in str(ws.topics.tail("far"))
