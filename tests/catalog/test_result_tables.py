"""What a name means, and to whom."""


def names(pairs: list) -> list[tuple[str, int]]:
    return [(v.recipe, v.version) for v, _ in pairs]


def test_an_own_recipe_that_was_never_computed_hides_a_shared_one_too(lab):
    lab.ready("top")
    with lab.scope.use("acme"):
        lab.define("TOP")
        assert lab.result_tables.newest("top") is None
        assert lab.result_tables.current() == []


def test_an_own_attempt_that_failed_hides_nothing(lab):
    shared = lab.ready("top")
    with lab.scope.use("acme"):
        begun = lab.begin("top")
        lab.table_status.mark_failed(begun.table_name, lab.writer, "x")
        assert lab.result_tables.newest("top")[1] == shared


def test_newest_of_one_owner_does_not_depend_on_who_is_bound(lab):
    with lab.scope.use("acme"):
        own = lab.ready("top")
    shared = lab.ready("top")
    assert lab.result_tables.newest_of_owner("acme", "TOP")[1] == own
    assert lab.result_tables.newest_of_owner(None, "TOP")[1] == shared


def test_current_is_the_newest_ready_version_of_each_recipe_by_name(lab):
    lab.ready("b")
    lab.ready("B")
    lab.ready("a")
    lab.begin("a")
    assert names(lab.result_tables.current()) == [("a", 1), ("b", 2)]
    found = lab.result_tables.current(["a", "b"])
    assert found == lab.result_tables.current()  # rows one by one, and by column
