"""Every limit of the page on limits has a test that shows it: here, or where it is named."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.catalog.logs import MAX_ENTRY_BYTES
from jammi_lab.core.settings import Settings
from jammi_widgets.graph_view import MAX_DRAWN_NODES
from tests.docs.pages import read

ROOT = Path(__file__).parents[2]
SHOWN_BY = {
    "platforms": "tests/shape/test_repository.py",
    "a workspace folder": "tests/catalog/test_database.py::"
    "test_a_catalog_on_a_network_filesystem_is_refused_with_the_other_way_named",
    "rows of a result": "tests/engine/test_duckdb_errors.py::"
    "test_running_out_of_memory_is_typed_and_the_next_statement_works",
    "memory of statements": "tests/engine/test_engine.py::test_the_memory_budget_is_shared_out",
    "a chart": "tests/widgets/test_charts.py::test_of_many_rows_a_sample_is_drawn_and_said",
    "columns of a file": "tests/sources/test_file_limits.py::test_too_many_columns_are_refused",
    "JSON files": "tests/sources/test_file_limits.py::test_json_nested_too_deep_is_refused",
    "xlsx": "tests/sources/test_file_limits.py::test_a_row_number_beyond_a_sheet_is_refused",
    "events of sessions": "tests/features/live/test_ephemeral_sessions.py::"
    "test_the_audit_topic_keeps_the_newest_events_of_a_tenant",
    "numbers": "tests/sources/test_server_types.py::test_conditions_compare_the_text_that_is_read",
    "JSON": "tests/engine/test_json_nesting.py::"
    "test_a_text_that_is_nested_300_000_deep_is_an_error",
    "a silent server": "tests/sources/test_lost_servers.py::"
    "test_a_server_that_sends_no_more_is_waited_for_until_an_interrupt",
    "a damaged, truncated or lost log of the catalog": "tests/store/test_lost_log.py::"
    "test_without_the_last_count_a_log_that_was_cut_is_not_noticed",
    "a full disk": "tests/store/test_full_disk.py::"
    "test_a_full_disk_lets_expire_drop_and_open_succeed",
    "little memory, few threads": "tests/store/test_exhausted.py::",
}
GUARANTEE = {
    "On a column that the owner of a source chose": "tests/contracts/source.py::"
    "test_an_anchor_that_is_given_rests_on_its_owner_s_word",
    "On the names in cells": "tests/kernel_ext/test_frames_in_cells.py::"
    "test_what_cannot_be_followed_is_a_ground",
    "On the order of rows where rows depend on it.": "tests/freshness/test_equal_rows.py::"
    "test_a_statement_that_depends_on_the_order_never_rests_on_it",
    "On the source of a Python step": "tests/freshness/test_grounds.py::"
    "test_grounds_travel_with_the_shortest_way",
    "On the identity of an encoder.": "tests/features/vectors/test_base.py::"
    "test_an_encoder_without_an_identity_is_known_by_name_version_and_width",
    "On file metadata.": "tests/store/test_retention.py::"
    "test_damage_that_moves_no_stat_is_found_by_a_deep_check_and_known_from_then_on",
    "On what writers of files keep.": "tests/storage/test_parquet_pages.py::"
    "test_statistics_are_part_of_the_column_that_they_are_about",
    "On the way to a file.": "tests/storage/test_routes.py::test_there_and_back_is_seen",
}
"""What shows a limit of the guarantee, by its first words in the page on verdicts."""
LISTS = {
    ("docs/verdicts-in-detail.md", "These kinds are known:"): [
        "tests/sources/test_http.py::test_another_large_file_of_its_size_is_seen",
        "tests/sources/test_delta.py::test_a_data_file_that_is_touched_is_a_change_once",
        (
            "tests/engine/test_canonical_form.py::"
            "test_statements_that_could_differ_have_different_canonical_forms"
        ),
    ],
    ("docs/verdicts-in-detail.md", "the state of an input cannot be compared:"): [
        (
            "tests/freshness/test_undecidable.py::"
            "test_a_volatile_statement_is_undecidable_and_says_by_what"
        ),
        ("tests/contracts/source.py::test_an_anchor_that_is_given_rests_on_its_owner_s_word"),
        (
            "tests/freshness/test_undecidable.py::"
            "test_a_table_of_a_frame_that_is_gone_is_judged_by_what_the_frame_was_made_from"
        ),
        (
            "tests/freshness/test_python_steps.py::"
            "test_a_step_whose_function_is_not_here_is_undecidable_and_says_so"
        ),
        (
            "tests/freshness/test_models_in_lineage.py::"
            "test_a_model_that_was_registered_again_with_other_weights_makes_its_tables_stale"
        ),
        (
            "tests/freshness/test_undecidable.py::"
            "test_a_board_does_not_read_what_is_dear_and_says_what_it_would_take"
        ),
    ],
    ("docs/databases.md", "so tables derived from them are undecidable:"): [
        "tests/sources/test_postgres.py::test_a_view_has_a_state_that_its_rows_tell_or_says_why_not",
        "tests/sources/test_mysql.py::test_a_view_is_read_and_has_a_state_by_the_anchor_of_a_column",
    ],
}
"""What shows each item of a list of limits, by its page and the end of the line that introduces
it."""
SENTENCES = {
    "an Iceberg table with equality deletes": "tests/sources/test_rows_deleted_beside.py::"
    "test_a_table_with_deletes_by_value_is_refused",
    "column mapping by id": "tests/sources/test_delta.py::"
    "test_columns_that_are_found_by_their_numbers_are_refused",
    "a table that lists files of the workspace itself": "tests/sources/test_delta.py::"
    "test_a_log_that_names_files_of_the_workspace_is_refused",
    "A value that DuckDB cannot represent": "tests/sources/test_server_types.py::"
    "test_a_value_that_duckdb_cannot_hold_is_refused_by_its_column",
    "must read the whole table again": "tests/features/live/test_live_inputs.py::"
    "test_a_commit_after_a_restore_is_not_the_one_of_its_number_before",
    "no manifest contains their rows": "tests/store/test_rebuild.py::"
    "test_the_report_says_what_manifests_do_not_hold",
    "levels of loggers, environment variables": "tests/steps/test_function_digest.py::"
    "test_what_the_page_of_limits_says_is_not_followed",
    "What is reached through a module": "tests/steps/test_function_digest.py::"
    "test_a_helper_from_another_module_of_the_person_is_followed_and_a_module_is_not",
    "MySQL hides a table from users": "tests/sources/test_mysql.py::"
    "test_rights_and_passwords_are_told_without_the_password",
}
"""What shows a limit of the pages on sources, verdicts and live tables that is a sentence, by words
of it."""
LIMITS: dict[str, Callable[[jl.Workspace], None]] = {}
"""What shows a limit, by the row of the page."""


def shows(row: str) -> Callable[[Callable[[jl.Workspace], None]], Callable[[jl.Workspace], None]]:
    def add(check: Callable[[jl.Workspace], None]) -> Callable[[jl.Workspace], None]:
        LIMITS[row] = check
        return check

    return add


@shows("names")
def check_lengths_of_names(ws: jl.Workspace) -> None:
    ws.define("n" * 200, "SELECT 1 AS x")
    with pytest.raises(jl.NameTooLong):
        ws.define("n" * 201, "SELECT 1 AS x")
    ws.mutable.create("m" * 63, {"id": "int64"}, primary_key=["id"])
    with pytest.raises(jl.JammiError):
        ws.mutable.create("m" * 64, {"id": "int64"}, primary_key=["id"])
    with pytest.raises(jl.NameInvalid), ws.tenant("t" * 65):
        pass
    with ws.tenant("t" * 64), ws.ephemeral() as session:
        session.create("s" * 24, {"id": "int64"}, primary_key=["id"])
        with pytest.raises(jl.NameTooLong):
            session.create("s" * 25, {"id": "int64"}, primary_key=["id"])


@shows("a cached Result")
def check_that_large_results_are_read_again(ws: jl.Workspace) -> None:
    ws.materialize("wide", "SELECT repeat('x', 1000) AS x, range AS k FROM range(80000)")
    result = ws.sql("SELECT * FROM jammi.wide")
    assert result.arrow().nbytes > 64 << 20
    ws.materialize("wide", "SELECT 'x' AS x, 1 AS k")
    assert result.arrow().num_rows == 80_000  # of the version that it was read from


@shows("lineage panel")
def check_that_large_lineages_are_folded(_: jl.Workspace) -> None:
    assert MAX_DRAWN_NODES == 300


@shows("exact search")
def check_the_default_of_exact_search(_: jl.Workspace) -> None:
    assert Settings()["vectors.exact_max_rows"] == 20_000


@shows("map of vectors")
def check_a_map_of_many_points(ws: jl.Workspace) -> None:
    count = 100_000
    vectors = np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)
    data = pa.table(
        {"id": range(count), "vec": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 2)}
    )
    ws.import_embeddings("many", data, key="id", vector="vec", index="later")
    assert ws.vector_map("many")._repr_html_()


@shows("mutable tables")
def check_that_each_commit_is_a_version(ws: jl.Workspace) -> None:
    labels = ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"])
    labels.insert([{"id": 1}])
    labels.insert([{"id": 2}])
    assert labels.version == 2


@shows("an event of a topic")
def check_the_size_of_events(_: jl.Workspace) -> None:
    assert MAX_ENTRY_BYTES == 256 << 20


@shows("SQL dialect")
def check_the_release_of_duckdb(ws: jl.Workspace) -> None:
    [(release,)] = ws.sql("SELECT version()").fetchall()
    assert release.startswith(("v1.5.", "v2."))


@shows("statements")
def check_that_other_statements_are_refused(ws: jl.Workspace) -> None:
    for statement in (
        "CREATE TABLE t (x INT)",
        "DROP TABLE t",
        "COPY t TO 'x.csv'",
        "SET threads=1",
    ):
        with pytest.raises(jl.JammiError):
            ws.sql(statement)


@shows("stored types")
def check_that_intervals_are_refused(ws: jl.Workspace) -> None:
    with pytest.raises(jl.SchemaMismatch):
        ws.materialize("span", "SELECT INTERVAL 1 DAY AS d")


@shows("tenants")
def check_that_tenants_are_names_only(ws: jl.Workspace) -> None:
    with ws.tenant("acme"):
        path = ws.materialize("own", "SELECT 'private' AS x").path
    # whoever reads the folder reads everything
    assert pq.read_table(path).column("x").to_pylist() == ["private"]


def test_every_limit_of_the_page_is_shown_by_a_test():
    limits, _, measured = read(ROOT / "docs/guides/limits.md").partition("\n## Measured once\n")
    rows = re.findall(r"^\| ([^|-][^|]*?) \| .+ \|$", limits, re.MULTILINE)
    assert "python -m bench.run limits" in measured
    assert sorted(rows) == sorted([*SHOWN_BY, *LIMITS])
    check_that_they_exist(SHOWN_BY)


def test_every_limit_of_the_guarantee_is_shown_by_a_test():
    page = read(ROOT / "docs/verdicts-in-detail.md")
    section = page.partition("## Limits of the guarantee")[2].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE) == list(GUARANTEE)
    check_that_they_exist(GUARANTEE)


@pytest.mark.parametrize("place", LISTS, ids=[each[1].split()[-1] for each in LISTS])
def test_every_item_of_a_list_of_limits_is_shown_by_a_test(place):
    page, introduction = place
    _, _, rest = read(ROOT / page).partition(introduction + "\n\n")
    items = re.findall(r"^- ", rest.partition("\n\n")[0], re.MULTILINE)
    assert len(items) == len(LISTS[place])
    check_that_they_exist(dict(enumerate(LISTS[place])))


def test_limits_that_are_sentences_are_shown_by_tests():
    pages = [
        read(ROOT / page)
        for page in (
            "docs/sources.md",
            "docs/databases.md",
            "docs/verdicts-in-detail.md",
            "docs/live.md",
        )
    ]
    text = " ".join(" ".join(pages).split())
    assert [words for words in SENTENCES if words not in text] == []
    check_that_they_exist(SENTENCES)


def check_that_they_exist(places: Mapping[Any, str]) -> None:
    for place in places.values():
        file, _, test = place.partition("::")
        assert f"def {test}" in read(ROOT / file), place


@pytest.mark.every_case
@pytest.mark.parametrize("row", LIMITS)
def test_a_limit_is_as_the_page_says(row, ws):
    check = LIMITS[row]
    check(ws)
