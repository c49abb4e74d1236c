"""The badge above a result in a real kernel: at once when it is known within a moment, filled in
later when it is not, waited for where nobody looks on."""

import re

import pytest

READ = "%%jammi r\nSELECT venue, n FROM jammi.top"
STALE = "top is possibly stale: papers changed, 4 → 5 rows, by way of venues — %jammi recompute top"
UNCHECKED = "top is not checked yet — %jammi why top"


def threads(kernel, prefix):
    return kernel.value(
        f"sorted(t.name for t in __import__('threading').enumerate() if t.name.startswith({prefix!r}))"
    )


def test_a_result_whose_badge_is_late_comes_at_once_says_not_checked_and_is_filled_in(gated):
    shown = gated(READ, looked_on=True)
    assert shown.text.split("\n") == [
        UNCHECKED,
        "venue         n",
        "varchar  bigint",
        "───────  ──────",
        "A             2",
        "1 row",
    ]
    assert "not checked yet" in shown.html and shown.html.index("not checked") < shown.html.index(
        "<table"
    )
    assert gated.value("_ is r") == "True"
    gated("gate.set()")
    filled = gated.update_of(shown)
    assert filled["text/plain"].split("\n") == [STALE, *shown.text.split("\n")[1:]]
    assert "<details>" in filled["text/html"] and filled["text/html"].endswith(
        shown.html[shown.html.index("<div><div") :]
    )


def test_a_badge_that_is_saved_carries_the_time_of_its_check(gated):
    gated(
        "import datetime\nnow = lambda: f'{datetime.datetime.now(datetime.UTC):%F %T}'\ngate.set()"
    )
    gated("began = now()")
    shown = gated(READ)
    [checked] = re.findall(r"· as of (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", shown.html)
    assert gated.value(f"began <= {checked!r} <= now()") == "True"
    assert shown.html.index("as of") < shown.html.index("<table") and "as of" not in shown.text
    frame, _ = gated("%%jammi --as polars\nSELECT venue, n FROM jammi.top").data
    assert "· as of 20" in frame["text/html"]


def test_a_badge_that_is_filled_in_while_another_cell_runs_belongs_to_its_own_cell(gated):
    shown = gated(READ, looked_on=True)
    [displayed] = [each for each in shown.displays if each["metadata"].get("jammi")]
    gated("gate.set()\n__import__('time').sleep(2)")
    gated.update_of(shown)
    filled = gated._filled[-1]["metadata"]["jammi"]
    assert filled["verdict"] and filled["code"] == displayed["metadata"]["jammi"]["code"]


def test_a_late_badge_of_fresh_tables_leaves_the_rows_alone(gated, tmp_path):
    (tmp_path / "papers.csv").write_text("id,venue,year\n1,A,2020\n2,B,2021\n3,A,2022\n4,,2023\n")
    shown = gated(READ, looked_on=True)
    gated("gate.set()")
    assert gated.update_of(shown)["text/plain"] == "\n".join(shown.text.split("\n")[1:])


@pytest.mark.parametrize("flags", ["--as polars", "--plot bar venue n"])
def test_above_a_frame_or_a_chart_a_late_badge_is_filled_in_too(gated, flags):
    shown = gated(f"%%jammi {flags}\nSELECT venue, n FROM jammi.top", looked_on=True)
    assert shown.error is None and shown.data[0]["text/plain"] == UNCHECKED and len(shown.data) == 2
    gated("gate.set()")
    assert gated.update_of(shown)["text/plain"] == STALE


def test_a_result_of_a_closed_workspace_keeps_its_rows_and_says_that_nothing_was_checked(gated):
    gated(READ, looked_on=True)
    gated("%jammi close\ngate.set()")
    for looked_on in (True, False):
        first, *rows = gated("r", looked_on=looked_on).text.split("\n")
        assert (
            first.startswith("top is not checked: ") and "closed" in first and rows[-1] == "1 row"
        )


@pytest.mark.parametrize("how", ["nobody looks on", "the setting says so"])
def test_where_two_runs_must_show_the_same_a_result_waits_for_its_badge(gated, how):
    looked_on = how == "the setting says so"
    if looked_on:
        gated("%jammi config cells.badge wait")
    shown = gated(
        f"threading.Timer(0.3, gate.set).start()\nget_ipython().run_cell_magic('jammi', '', {READ.partition(chr(10))[2]!r})",
        looked_on=looked_on,
    )
    [saved] = shown.displays
    assert shown.text.split("\n")[0] == STALE and "display_id" not in saved.get("transient", {})


def test_a_badge_that_is_known_in_time_is_part_of_the_result(gated):
    gated("gate.set()\nimport jammi_kernel_ext.badges as badges; badges.MOMENT_SECONDS = 60")
    shown = gated(READ, looked_on=True)
    gated("badges.MOMENT_SECONDS = 0.05")
    assert shown.text.split("\n")[0] == STALE and [
        d.get("execution_count") is not None for d in shown.displays
    ] == [True]


def test_a_result_that_read_no_result_table_starts_no_look(gated):
    shown = gated("%%jammi\nSELECT count(*) AS n FROM papers", looked_on=True)
    assert (
        shown.text.endswith("1 row")
        and "checked" not in shown.text
        and threads(gated, "jammi-badge") == "[]"
    )


def test_a_badge_scans_nothing_above_the_bounds_of_a_look(chain, edited):
    edited()
    chain("%jammi config look.scan_bytes 0")
    assert chain(READ).text.split("\n")[0].startswith("top is undecidable: papers: would scan")


@pytest.mark.parametrize(
    "code",
    [
        "%%jammi -m more\nSELECT * FROM jammi.venues",
        "%%jammi_py more --inputs venues\nvenues.arrow()",
        "%jammi embed more venues --key venue --text venue --model hashing --where 'venue IS NOT NULL'",
    ],
    ids=["sql", "python", "embed"],
)
def test_a_table_that_is_made_from_one_which_is_not_fresh_has_the_badge_above_it(
    chain, edited, code
):
    assert len(chain(code).data) == 1
    edited()
    badge, made = chain(code).data
    assert (
        badge["text/plain"]
        == "venues is stale: papers changed, 4 → 5 rows — %jammi recompute venues"
    )
    assert made["text/plain"].startswith("more, version 1: ")
    if code.startswith("%%"):
        assert chain(code.replace("\n", " -q\n", 1)).data == []
