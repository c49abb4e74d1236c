"""What a view of MySQL rests on, told by a server that answers as written here."""

import pytest

from jammi_lab.sources.databases.mysql_views import view_dependencies

VIEW = ("crm", "v")


def told(text="select 1 AS `n` from `crm`.`t`", written="2020-01-01 00:00:00 never"):
    """What is behind a view of that text over a table with that time of its last write, which is
    long past."""
    forms = {
        "v": ("VIEW", None, "never never", None, text),
        "t": ("BASE TABLE", "InnoDB", written, None, None),
    }

    def ask(select):
        asked = [name for name in ("t", "v") if f"table_name = '{name}'" in select]
        return [(at, *forms[name]) for at, name in enumerate(asked)]

    return view_dependencies(ask, VIEW, lambda value: f"'{value}'")


@pytest.mark.parametrize(
    "moved", [{"written": "2020-01-01 00:00:01 never"}, {"text": "select 2 AS `n` from `crm`.`t`"}]
)
def test_the_stamp_of_a_view_moves_with_the_tables_and_texts_behind_it(moved):
    still = told()
    assert not still.volatile_because and still.recent_write_time is None and still.is_logged
    assert told().write_stamp == still.write_stamp != told(**moved).write_stamp
