"""Nobody sees, names, probes or changes what is another tenant's, whichever way they ask."""

import asyncio
import operator
import os
import random
import threading
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import InvalidArgument, JammiError, TableNotFound, TenantForbidden
from jammi_lab.core.verdicts import DefinitionChanged, Fresh, Stale
from jammi_lab.workspace.copy import copy_workspace
from tests.cases import lines
from tests.features.live.loops import in_a_loop
from tests.inside import services_of
from tests.waiting import in_threads

HERS, NOBODYS = "qzokka", "qxokka"
"""What is called so is acme's; nothing is called the other, which is as near to every other
name."""


@pytest.fixture
def lab(tmp_path, ws):
    """A workspace in which tenant acme has one of everything under one name, and others have
    nothing like it."""
    folder = tmp_path
    (folder / "qzokka.csv").write_text("id,text\n1,qzokka one\n2,qzokka two\n")
    shared = pa.table({"id": [1, 2], "text": ["p", "q"]})
    ws.sources.add("papers", shared)
    with ws.tenant("acme"):
        ws.sources.add(f"{HERS}_source", folder / "qzokka.csv")
        table = ws.materialize(f"{HERS}_table", f"SELECT id, text FROM {HERS}_source")
        ws.import_embeddings(
            f"{HERS}_vectors",
            pa.table({"id": [1, 2], "vec": pa.array([[1.0, 0.0], [0.0, 1.0]])}),
            key="id",
            vector="vec",
        )
        ws.topics.register(f"{HERS}_topic", {"text": "string"})
        ws.topics.publish(f"{HERS}_topic", [{"text": "qzokka"}])
        ws.mutable.create(f"{HERS}_notes", {"id": "int64", "text": "string"}, primary_key=["id"])
        ws.mutable[f"{HERS}_notes"].insert([{"id": 1, "text": "qzokka"}])
        ws.models.register(f"{HERS}_model", type="t", backend="b", task="k")
        session = ws.ephemeral()
        session.create(HERS, {"id": "int64"}, primary_key=["id"])
        ws.hers = (table.table_name, str(table.path), session.tables[HERS], session)
    return ws


@pytest.fixture(params=[None, "bolt"])
def stranger(lab, request):
    with lab.tenant(request.param):
        yield lab


def by_statement(text):
    return lambda ws, n: ws.sql(text.format(n=n))


def by_verb(verb, what=None):
    return lambda ws, *n: operator.attrgetter(verb)(ws)(*(f"{each}_{what}" for each in n))


VERBS = {
    "table": "table drop verify staleness why plan recompute expire what_if lineage",
    "source": "what_if lineage derives_from sources.__getitem__ sources.remove",
    "topic": "lineage topics.__getitem__ topics.replay topics.subscribe topics.drop",
    "notes": "what_if lineage mutable.__getitem__ mutable.drop",
    "model": "models.get models.delete",
}
ASKED = {
    **{text: by_statement(text) for text in lines("statements/names_of_others.sql")},
    **{
        f"{verb} {what}": by_verb(verb, what)
        for what, verbs in VERBS.items()
        for verb in verbs.split()
    },
    "explain": lambda ws, n: ws.explain(f"SELECT * FROM jammi.{n}_table"),
    "table version": lambda ws, n: ws.table(f"{n}_table", 1),
    "drop anyway": lambda ws, n: ws.drop(f"{n}_table", force=True),
    "rename": lambda ws, n: ws.rename(f"{n}_table", "mine"),
    "search": lambda ws, n: ws.search(f"{n}_vectors", [1.0, 0.0]),
    "neighbors": lambda ws, n: ws.search(f"{n}_vectors", row=1),
    "compute": lambda ws, n: ws.compute(
        "c", lambda x: x.arrow(), inputs=[f"{n}_table"], version="1"
    ),
    "graph": lambda ws, n: ws.neighbor_graph("g", f"{n}_vectors"),
    "register": lambda ws, n: ws.register(
        "r", pa.table({"a": [1]}), producer="p", inputs=[f"{n}_table"]
    ),
    "publish": lambda ws, n: ws.topics.publish(f"{n}_topic", [{"text": "x"}]),
    "embed with a model": lambda ws, n: ws.embed(
        "e", "papers", key="id", text=["text"], model=f"{n}_model"
    ),
    "lookup": lambda ws, n: ws.lookup(f"SELECT * FROM jammi.{n}_table"),
}


def answer(call, name):
    """What a call says: the class and text of its error, or what it shows."""
    try:
        shown = call(name)
    except (JammiError, AttributeError, TypeError) as error:
        return type(error).__name__, str(error).replace(name, "…")
    return "no error", repr(shown).replace(name, "…")


def test_another_tenants_name_is_a_name_that_does_not_exist(stranger):
    wrong = {}
    for way, call in ASKED.items():
        hers, nobodys = (
            answer(lambda n, call=call: call(stranger, n), name) for name in (HERS, NOBODYS)
        )
        if (
            hers != nobodys
            or HERS in hers[1]
            or hers[0] in ("no error", "TypeError", "AttributeError")
        ):
            wrong[way] = (hers, nobodys)
    assert wrong == {}


SHOWN = {
    **{
        verb: by_verb(verb)
        for verb in "recipes status plan recompute sources.list topics.list sessions mutable.list "
        "fsck models.list".split()
    },
    "tables": lambda ws: ws.tables(status=None),
    "lineage": lambda ws: ws.lineage(columns=True),
    "show tables": lambda ws: ws.sql("SHOW TABLES").fetchall(),
    "names": lambda ws: services_of(ws).engine.known_names(),
    "environment": lambda ws: repr(ws),
    "settings": lambda ws: ws.settings,
}


RELATIONS = ["sources", "tables", "columns", "recipes", "models", "anchors", "status", "lineage", "column_lineage", "mutable_tables", "topics",
             "sessions"]  # fmt: skip


def test_nothing_that_is_shown_tells_of_another_tenants_things(stranger):
    told = {}
    for way, show in SHOWN.items():
        shown = show(stranger)
        html = shown._repr_html_() if hasattr(shown, "_repr_html_") else ""
        told[way] = f"{shown!r} {shown} {html}"
    for relation in RELATIONS:
        told[relation] = repr(stranger.sql(f"SELECT * FROM jammi_catalog.{relation}").fetchall())
    assert [way for way, text in told.items() if HERS in text or "acme" in text] == []


def test_what_recovery_and_check_find_of_hers_is_told_to_no_other_tenant(lab):
    """They go over all tenants; who is bound is told of what it may see, and nobody's sizes are in
    the sums."""
    physical, path, *_ = lab.hers
    folder = Path(path).parent
    Path(path).unlink()
    stray = folder / f"{HERS}_stray.parquet"
    stray.write_bytes(b"x" * 100)
    os.utime(stray, (1, 1))
    with lab.tenant("bolt"):
        shared = [lab.recover(), lab.recovery, lab.fsck(), lab.fsck(deep=True)]
        assert not any(shared) and HERS not in repr([each.to_dict() for each in shared])
        assert stray.exists() and lab.fsck().bytes_quarantined == 0
    with lab.tenant("acme"):
        assert lab.recover().missing == [physical] == lab.fsck().missing and lab.fsck().orphans == [
            f"results/acme/{stray.name}"
        ]
    assert lab.recover().missing == [physical], (
        "who looks after the whole workspace is bound to nobody"
    )
    with lab.tenant("bolt"):
        repaired = lab.fsck(repair=True, grace=0)
        assert (repaired.reclaimed, repaired.bytes_reclaimed, bool(repaired)) == (
            [],
            0,
            False,
        ) and not stray.exists()


def test_a_name_that_is_nearly_hers_is_offered_to_nobody_else(stranger):
    for way, call in ASKED.items():
        said = answer(lambda n, call=call: call(stranger, n), HERS[:-1])
        assert HERS not in said[1], way


def test_an_exact_physical_name_leads_nowhere(stranger, lab):
    physical, path, ephemeral, _ = lab.hers
    for text in (
        f'SELECT * FROM jammi."{physical}"',
        f'SELECT * FROM "jammi.{physical}"',
        f'SELECT * FROM mutable."{ephemeral}"',
        f'SELECT * FROM mutable.public."{ephemeral}"',
        f'INSERT INTO mutable."{ephemeral}" VALUES (1)',
        f"SELECT * FROM read_parquet('{path}')",
        f"SELECT * FROM '{path}'",
        f"SELECT * FROM read_parquet('{path.rsplit('/', 2)[0]}/**/*.parquet')",
        f"SELECT * FROM read_csv('{path.rsplit('/', 3)[0]}/catalog.sqlite3')",
    ):
        with pytest.raises(JammiError) as caught:
            stranger.sql(text)
        assert "one" not in str(caught.value).replace("creates one.", "")
    for probe in (
        lambda: stranger.table(physical),
        lambda: stranger.verify(physical),
        lambda: stranger.mutable[ephemeral],
    ):
        with pytest.raises(JammiError):
            probe()
    with pytest.raises(JammiError):
        stranger.sources.add("sneaky", path)


def test_openlineage_exports_what_is_seen_here_only(stranger, tmp_path):
    pytest.importorskip("openlineage")
    stranger.export_openlineage(tmp_path / "runs.jsonl")
    assert HERS not in (tmp_path / "runs.jsonl").read_text()


def test_a_copy_has_the_tables_of_every_tenant(ws, tmp_path):
    """Its catalog names them all. A tenant copies nothing."""
    for tenant in (None, "acme", "bolt"):
        with ws.tenant(tenant):
            ws.materialize(f"of_{tenant}", f"SELECT '{tenant}' AS t")
    with ws.tenant("acme"), pytest.raises(TenantForbidden):
        copy_workspace(ws, tmp_path / "copy")
    report = copy_workspace(ws, tmp_path / "copy")
    assert (report.tables, report.missing) == (3, [])
    with jl.open(tmp_path / "copy") as copied:
        assert not copied.fsck(deep=True)
        for tenant in (None, "acme", "bolt"):
            with copied.tenant(tenant):
                assert copied.table(f"of_{tenant}").read().fetchall() == [(str(tenant),)]


def test_a_stranger_may_take_any_name_and_learns_nothing_by_it(lab):
    with lab.tenant("other"):
        made = lab.topics.register(f"{HERS}_topic", {"different": "int64"})
        assert (made.next_offset, made.tenant) == (0, "other")
        lab.sources.add(f"{HERS}_source", pa.table({"id": [5]}))
        assert lab.materialize(f"{HERS}_table", f"SELECT id FROM {HERS}_source").version == 1
        lab.drop(f"{HERS}_table")
        lab.sources.remove(f"{HERS}_source")
        lab.topics.drop(f"{HERS}_topic")
    with lab.tenant("acme"):
        assert lab.table(f"{HERS}_table").read().fetchall() == [
            (1, "qzokka one"),
            (2, "qzokka two"),
        ]


def test_what_is_shared_is_read_and_not_changed_under_a_tenant(ws):
    ws.sources.add("papers", pa.table({"id": [1]}))
    ws.materialize("shared", "SELECT id FROM papers")
    ws.topics.register("news", {"id": "int64"})
    with ws.tenant("bolt"):
        assert ws.table("shared").read().fetchall() == [(1,)]
        for change in (
            lambda: ws.drop("shared"),
            lambda: ws.expire("shared"),
            lambda: ws.sources.remove("papers"),
            lambda: ws.topics.publish("news", [{"id": 1}]),
        ):
            with pytest.raises(TenantForbidden):
                change()
    assert ws.table("shared").read().fetchall() == [(1,)]


@pytest.fixture
def hidden(ws, tmp_path):
    """Two versions of the shared recipe `a`, whose name a recipe of acme's hides; both read a
    source that acme's own one hides."""
    (tmp_path / "shared.csv").write_text("id\n1\n")
    (tmp_path / "own.csv").write_text("id\n7\n8\n")
    ws.sources.add("papers", tmp_path / "shared.csv")
    made = [ws.materialize("a", f"SELECT id + {n} AS id FROM papers") for n in range(2)]
    with ws.tenant("acme"):
        ws.sources.add("papers", tmp_path / "own.csv")
        ws.materialize("a", "SELECT max(id) AS m FROM papers")
    return made


@pytest.mark.parametrize("by", [lambda table: table, lambda table: table.table_name])
def test_a_shared_table_whose_name_is_hidden_is_judged_by_the_shared_recipe(
    ws, hidden, tmp_path, by
):
    first, last = hidden
    with ws.tenant("acme"):
        assert (ws.staleness(by(last)), ws.why(by(last)).verdict) == (Fresh(), Fresh())
        assert (
            ws.staleness(by(first))
            == ws.why(by(first)).verdict
            == Stale([DefinitionChanged(first.definition_hash, last.definition_hash)])
        )
        (tmp_path / "own.csv").write_text("id\n9\n")
        assert ws.staleness(by(last)) == Fresh() != ws.staleness("a")
        (tmp_path / "shared.csv").write_text("id\n2\n")
        assert isinstance(ws.staleness(by(last)), Stale) and "papers" in str(ws.why(by(last)))


def test_a_shared_table_whose_name_is_hidden_is_compared_with_its_own_versions(ws, hidden):
    first, last = hidden
    with ws.tenant("acme"):
        assert [(t.version, t.tenant, t.table_name) for t in last.history()] == [
            (2, None, last.table_name),
            (1, None, first.table_name),
        ]
        for diff in (last.diff(), last.diff(1)):
            assert (diff.added.to_pylist(), diff.removed.to_pylist(), diff.columns_added) == (
                [{"id": 2}],
                [{"id": 1}],
                [],
            )
        with pytest.raises(TableNotFound, match="before version 1"):
            first.diff()
        assert ws.current_tenant == "acme"
        own = ws.table("a")
        assert [(t.version, t.tenant) for t in own.history()] == [(1, "acme")]
        with pytest.raises(TableNotFound, match="no ready version 2"):
            own.diff(2)
        with pytest.raises(TenantForbidden):
            last.pin()
    for ask in (own.history, own.diff, own.staleness, lambda: ws.why(own), lambda: ws.lineage(own)):
        with pytest.raises(TableNotFound, match="no longer exists"):
            ask()


@pytest.fixture
def derived(ws):
    """The shared recipe `base`, from which one shared table derives, one of bolt's, and two of
    acme's, one by the physical name."""
    ws.sources.add("papers", pa.table({"id": [1]}))
    base = ws.materialize("base", "SELECT id FROM papers")
    ws.materialize("top", "SELECT id FROM jammi.base")
    with ws.tenant("bolt"):
        ws.materialize("qz_bolts", "SELECT id FROM jammi.base")
    with ws.tenant("acme"):
        ws.materialize("qz_mine", "SELECT sum(id) AS s FROM jammi.base")
        ws.materialize("qz_exact", f'SELECT id FROM jammi."{base.table_name}"')
    return base


def test_a_shared_recipe_is_not_dropped_while_a_table_of_a_tenant_derives_from_it(ws, derived):
    with pytest.raises(
        InvalidArgument,
        match=r"^'base' cannot be dropped while top, 3 tables of other tenants derive from it\.",
    ) as caught:
        ws.drop("base")
    assert "qz" not in str(caught.value)
    ws.drop("top")
    with ws.tenant("acme"):
        with pytest.raises(TenantForbidden):
            ws.drop("base")
        assert ws.staleness("qz_mine") == Fresh()
        ws.drop("qz_exact")
        ws.drop("qz_mine")
    with pytest.raises(
        InvalidArgument,
        match=r"^'base' cannot be dropped while 1 table of other tenants derives from it\.",
    ):
        ws.drop("base")
    ws.drop("base", force=True)
    with ws.tenant("bolt"):
        assert str(ws.staleness("qz_bolts")) == "stale: base is gone"


def test_a_table_of_a_tenants_own_recipe_of_the_name_does_not_keep_the_shared_one(ws):
    ws.materialize("base", "SELECT 1 AS id")
    with ws.tenant("acme"):
        ws.materialize("base", "SELECT 2 AS id")
        ws.materialize("mine", "SELECT id FROM jammi.base")
    ws.drop("base")
    with ws.tenant("acme"):
        assert ws.staleness("mine") == Fresh()
        with pytest.raises(InvalidArgument, match="while mine derives from it"):
            ws.drop("base")


# -- scopes ----------------------------------------------------------------------------------------


def test_unalias_of_a_shared_recipe_warns_of_the_number_of_tenants_tables_that_read_it(ws, derived):
    told = "^top, 2 tables of other tenants still read 'base', which no longer exists: redefine them to read 'found'\\.$"  # the physical name goes with it
    ws.rename("base", "found")
    with pytest.warns(RuntimeWarning, match=told):
        ws.unalias("base")
    ws.drop("top")
    with pytest.raises(InvalidArgument, match="while 1 table of other tenants derives from it"):
        ws.drop("found")
    ws.rename("found", "base")
    ws.rename("base", "found")
    with pytest.warns(
        RuntimeWarning,
        match=r"^2 tables of other tenants still read 'base', which no longer exists: redefine them to read 'found'\.$",
    ):
        ws.unalias("base")


def test_a_table_that_was_made_from_its_own_former_version_does_not_keep_itself(ws):
    former = ws.materialize("a", "SELECT 1 AS n")
    ws.materialize("a", f'SELECT n + 1 AS n FROM jammi."{former.table_name}"')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ws.rename("a", "b")
    ws.drop("b")
    assert not ws.recipes()


def test_nested_scopes_restore_also_after_an_exception(ws):
    with ws.tenant("a"):
        with pytest.raises(RuntimeError), ws.tenant("b"):
            assert ws.current_tenant == "b"
            raise RuntimeError
        assert ws.current_tenant == "a"
        with ws.tenant(None):
            assert ws.current_tenant is None
        assert ws.current_tenant == "a"
    assert ws.current_tenant is None


def test_a_result_that_was_opened_in_a_scope_stays_in_it(ws):
    for tenant in ("a", "b"):
        with ws.tenant(tenant):
            ws.sources.add("mine", pa.table({"whose": [tenant] * 5}))
    with ws.tenant("a"):
        result = ws.sql("SELECT whose FROM mine")
    with ws.tenant("b"):
        assert result.arrow().column("whose").to_pylist() == ["a"] * 5
        assert result.fetchall() == [("a",)] * 5


def test_the_admin_scope_ends_with_its_block_and_belongs_to_its_context(ws):
    catalog, seen = services_of(ws).catalog, []
    for tenant in ("a", "b"):
        with ws.tenant(tenant):
            ws.topics.register("mine", {"n": "int64"})
    with pytest.raises(RuntimeError), catalog.all_tenants():
        assert len(catalog.topics.list()) == 2
        thread = threading.Thread(target=lambda: seen.append(len(catalog.topics.list())))
        thread.start()
        thread.join()
        raise RuntimeError
    assert (len(catalog.topics.list()), seen) == (0, [0])


TENANTS = ("a", "b", "c", None)


@pytest.fixture
def crowd(ws):
    """Each tenant has a topic and a source of the same name, with its own name inside."""
    for tenant in TENANTS:
        with ws.tenant(tenant):
            ws.topics.register("mine", {"whose": "string"})
            ws.topics.publish("mine", [{"whose": str(tenant)}])
            ws.sources.add("rows", pa.table({"whose": [str(tenant)]}))
    return ws


def test_thousands_of_interleavings_of_threads_read_no_wrong_row(crowd):
    wrong, read = [], []

    def work(seed):
        chance = random.Random(seed)
        for step in range(400):
            tenant = chance.choice(TENANTS)
            with crowd.tenant(tenant):
                if step % 40 == 0:
                    whose = crowd.sql("SELECT whose FROM rows").fetchall()[0][0]
                elif step % 3:
                    whose = next(crowd.topics.replay("mine")).batch["whose"][0].as_py()
                else:
                    whose = str(crowd.topics["mine"].tenant)
                if whose != str(tenant):
                    wrong.append((tenant, whose))
            if crowd.current_tenant is not None:
                wrong.append(("left bound", crowd.current_tenant))
            read.append(1)

    in_threads(work, range(8))
    assert (len(read), wrong) == (3200, [])


def test_thousands_of_interleavings_of_tasks_read_no_wrong_row(crowd):
    wrong, read = [], []

    async def one(seed):
        chance = random.Random(seed)
        for _ in range(20):
            tenant = chance.choice(TENANTS)
            with crowd.tenant(tenant):
                await asyncio.sleep(0)
                here = str(crowd.topics["mine"].tenant)
                await asyncio.sleep(0)
                there = (
                    await asyncio.to_thread(lambda: str(crowd.topics["mine"].tenant))
                    if chance.random() < 0.2
                    else here
                )
                read.append(1)
                wrong.extend([(tenant, seen) for seen in (here, there) if seen != str(tenant)])

    async def all_of_them():
        crowd.bind_tenant("b")
        await asyncio.gather(*(one(seed) for seed in range(100)))
        assert crowd.current_tenant == "b"

    in_a_loop(all_of_them())
    assert (len(read), wrong, crowd.current_tenant) == (2000, [], None)


def test_a_tenant_block_can_be_entered_again_inside_of_itself_and_in_other_threads(ws):
    acme, nobody = ws.tenant("Acme"), ws.tenant(None)
    seen = []

    def elsewhere():
        with acme:
            seen.append(ws.current_tenant)
        seen.append(ws.current_tenant)

    for _ in range(2):
        with acme, nobody, acme:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            seen.append(ws.current_tenant)
            ws.bind_tenant("bolt")
        seen.append(ws.current_tenant)
    assert seen == ["acme", None, "acme", None] * 2
    assert acme(lambda: ws.current_tenant)() == "acme"
    with pytest.raises(ZeroDivisionError), acme:
        1 / 0  # noqa: B018
    assert ws.current_tenant is None
