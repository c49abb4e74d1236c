"""The producer `external`: rows that come from elsewhere."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jammi_lab.core.errors import (
    InvalidArgument,
    SchemaMismatch,
    TableNotFound,
)
from jammi_lab.core.verdicts import Match
from tests.store.lab import files, statuses

ROWS = {"id": [1, 2, 3], "score": [0.5, None, 2.5]}


def test_the_same_rows_cut_into_other_chunks_are_the_same_rows(lab):
    whole = pa.table(ROWS)
    one = lab.register("scores", whole, producer="p")
    again = lab.register(
        "scores", pa.concat_tables([whole.slice(0, 1), whole.slice(1)]), producer="p"
    )
    assert again.outcome == "reused" and again.table_name == one.table_name


@pytest.mark.parametrize(
    "changed",
    [
        {"frame": pa.table({"id": [1, 2, 3], "score": [0.5, None, 2.0]})},
        {"frame": pa.table({"id": [1, 2, 3], "Score": [0.5, None, 2.5]})},
        {"frame": pa.table({"id": pa.array([1, 2, 3], pa.int32()), "score": [0.5, None, 2.5]})},
        {"frame": pa.table({"score": [0.5, None, 2.5], "id": [1, 2, 3]})},
        {"producer": "q"},
        {"params": {"k": 2}},
        {"params": {"k": 1.0}},
        {"params": {"k": "1"}},
        {"params": {}},
        {"key": "id"},
    ],
    ids=str,
)
def test_any_one_difference_is_another_definition_and_a_new_version(lab, changed):
    given = {"frame": pa.table(ROWS), "producer": "p", "params": {"k": 1}}
    one = lab.register("scores", **given)
    other = lab.register("scores", **{**given, **changed})
    assert other.definition_hash != one.definition_hash and (other.outcome, other.version) == (
        "computed",
        2,
    )


def test_a_recipe_can_be_an_input(lab):
    lab.materialize("venues", "SELECT venue FROM papers")
    table = lab.register("scores", pa.table(ROWS), producer="p", inputs=["venues", "papers"])
    assert (
        sorted(i.name for i in table.inputs) == ["papers", "venues"]
        and table.derived_from == "venues"
    )


def test_an_unknown_input_is_typed_with_near_names_and_leaves_no_row(lab, folder):
    with pytest.raises(TableNotFound) as caught:
        lab.register("scores", pa.table(ROWS), producer="p", inputs=["paper"])
    assert "papers" in caught.value.near and statuses(folder) == {}


@pytest.mark.parametrize("producer", [np.str_("p"), 7, None])
def test_a_producer_that_is_no_text_is_refused(lab, folder, producer):
    with pytest.raises(InvalidArgument, match="producer must be a string"):
        lab.register("scores", pa.table(ROWS), producer=producer)
    assert statuses(folder) == {}


def test_what_cannot_be_a_table_or_its_key_is_a_schema_error_and_leaves_no_files(lab, folder):
    for frame, key in (
        (pa.table([[1], [2]], names=["a", "a"]), None),
        (pa.table([[1], [2]], names=["a", "A"]), None),
        (pa.table({}), None),
        (pa.table({"d": pa.array([1], pa.duration("s"))}), None),
        (pa.table(ROWS), "nope"),
        (pa.table(ROWS), ["id", "nope"]),
    ):
        with pytest.raises(SchemaMismatch):
            lab.register("scores", frame, producer="p", key=key)
        assert files(folder) == [] and "ready" not in statuses(folder).values()


def test_a_change_of_the_frame_after_the_call_changes_nothing(lab):
    frame = pd.DataFrame({"id": [1, 2, 3]})
    table = lab.register("scores", frame, producer="p")
    frame.loc[0, "id"] = 99
    assert table.read().arrow()["id"].to_pylist() == [1, 2, 3] and table.verify() == Match()


def test_rows_from_outside_are_no_recipe_that_could_be_defined(lab, folder):
    with pytest.raises(InvalidArgument, match="got Table") as caught:
        lab.define("scores", pa.table(ROWS))
    assert "ws.register" in caught.value.hint
    assert statuses(folder) == {} and len(lab.recipes()) == 0
