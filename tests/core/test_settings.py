"""Where settings come from, which one wins, and when they take effect."""

import os
from pathlib import Path

import pytest

import jammi_lab as jl
from jammi_lab.core.settings import DEFAULTS, Settings, load_settings
from tests.cases import cases
from tests.inside import services_of


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder whose `jammi.toml` gives every kind of setting."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "jammi.toml").write_text(
        '[engine]\nthreads = 1\ntimezone = "Asia/Tokyo"\n[look]\ntimeout_seconds = 4\n[cells]\nlimit = 3\n'
    )
    return folder


def test_a_setting_has_its_default_when_nobody_gives_it(tmp_path):
    settings = load_settings(tmp_path, None, {})
    assert {key: settings[key] for key in settings} == DEFAULTS


def test_the_file_wins_over_the_default_the_environment_over_the_file_and_the_call_over_both(
    lab,
):
    environment = {"JAMMI_ENGINE__THREADS": "2", "JAMMI_CELLS__LIMIT": "5"}
    settings = load_settings(lab, {"engine.threads": 3}, environment)
    assert (
        settings["engine.threads"],
        settings["cells.limit"],
        settings["engine.timezone"],
        settings["flight.wait_seconds"],
    ) == (
        3,
        5,
        "Asia/Tokyo",
        600.0,
    )


def test_an_open_workspace_works_with_what_was_given(lab, monkeypatch):
    hour = "SELECT CAST(date_part('hour', TIMESTAMPTZ '2024-01-01 00:00:00+00') AS INTEGER)"
    with jl.open(lab) as ws:
        assert ws.sql(hour).fetchall() == [(9,)]
    monkeypatch.setenv("JAMMI_ENGINE__TIMEZONE", "America/New_York")
    with jl.open(lab) as ws:
        assert ws.sql(hour).fetchall() == [(19,)]
    with jl.open(lab, settings={"engine.timezone": "UTC"}) as ws:
        assert ws.sql(hour).fetchall() == [(0,)]


def test_the_environment_of_another_process_counts_there(lab, run_python):
    done = run_python(
        "import jammi_lab as jl\nwith jl.open('lab') as ws: print(ws.settings['engine.threads'])",
        env={"JAMMI_ENGINE__THREADS": "2"},
    )
    assert done.stdout.split() == ["2"]


def test_a_variable_that_means_no_setting_is_left_alone(tmp_path):
    settings = load_settings(
        tmp_path,
        None,
        {"JAMMI_RIVAL_PYTHON": "x", "JAMMI_ENGINE__NOTHING": "1", "ENGINE__THREADS": "9"},
    )
    assert settings["engine.threads"] == 0


@pytest.mark.parametrize(
    ("file", "environment", "said", "where"),
    [
        *cases("cells/settings_refused", "file", "environment", "said", "where"),
        (f"[cells]\nlimit = {'9' * 5000}\n", {}, "jammi.toml cannot be read", ""),
    ],
)
def test_a_wrong_value_is_refused_with_the_place_where_it_stands(
    tmp_path, file, environment, said, where
):
    (tmp_path / "jammi.toml").write_text(file)
    with pytest.raises(jl.InvalidArgument) as caught:
        load_settings(tmp_path, None, environment)
    assert said in caught.value.message and where in caught.value.hint


def test_a_misspelt_key_in_the_file_has_near_ones(tmp_path):
    (tmp_path / "jammi.toml").write_text("[engine]\ntreads = 2\n")
    with pytest.raises(jl.InvalidArgument) as caught:
        jl.open(tmp_path)
    assert "engine.threads" in caught.value.near and os.listdir(tmp_path) == ["jammi.toml"]
    with pytest.raises(jl.InvalidArgument, match="no setting None"):
        Settings({None: 2})


def test_numbers_may_be_given_as_text_and_whole_numbers_as_floats():
    settings = Settings({"engine.threads": "4", "look.timeout_seconds": "1.5", "cells.limit": 7.0})
    assert (
        settings["engine.threads"],
        settings["look.timeout_seconds"],
        settings["cells.limit"],
    ) == (4, 1.5, 7)


@pytest.mark.parametrize(
    "key", ["engine.threads", "engine.timezone", "catalog.url", "look.racy_seconds"]
)
def test_what_was_used_when_the_workspace_opened_stays_and_says_how_it_is_given(ws, key):
    before = ws.settings[key]
    with pytest.raises(jl.InvalidArgument, match="while the workspace is open") as caught:
        ws.settings.set(key, "1")
    assert ws.settings[key] == before and key in caught.value.hint


def test_what_may_change_while_the_workspace_is_open_takes_effect_at_once(ws, tmp_path):
    (tmp_path / "s.csv").write_text("id\n" + "1\n" * 1000)
    ws.sources.add("s", tmp_path / "s.csv")
    ws.materialize("t", "SELECT id FROM s")
    (tmp_path / "s.csv").write_text("id\n" + "2\n" * 1000)
    ws.settings.set("look.scan_bytes", 10)
    assert isinstance(ws.status()["t"].verdict, jl.Undecidable)
    ws.settings.set("look.scan_bytes", 1_000_000)
    assert isinstance(ws.status()["t"].verdict, jl.Stale)
    ws.settings.set("flight.wait_seconds", 0)
    assert services_of(ws).build_context.single_flight.wait_seconds() == 0.0


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("engine.memory_limit", "lots", "a size like 2GB"),
        ("engine.temp_quota", "x", "a size like 2GB"),
        ("engine.timezone", "Europe/Berln", "the name of a time zone"),
    ],
)
def test_a_size_or_a_zone_that_is_none_is_refused_where_it_stands(tmp_path, key, value, words):
    with pytest.raises(jl.InvalidArgument, match=f"The setting {key} takes {words}") as caught:
        jl.open(tmp_path / "ws", settings={key: value})
    if key == "engine.timezone":
        assert "Europe/Berlin" in caught.value.near
    (tmp_path / "jammi.toml").write_text(f'{key} = "{value}"\n')
    with pytest.raises(jl.InvalidArgument) as caught:
        load_settings(tmp_path, None)
    assert "jammi.toml" in caught.value.hint


@pytest.mark.parametrize("value", ["2GB", "512MiB", " 1.5 gb ", "-1", "none"])
def test_sizes_are_taken_as_the_engine_takes_them(value):
    assert Settings({"engine.memory_limit": value})["engine.memory_limit"] == value


def test_settings_that_are_no_dict_are_refused_in_words(tmp_path):
    with pytest.raises(jl.InvalidArgument, match="settings= must be a dict, got str"):
        jl.open(tmp_path / "lab", settings="cells.limit=5")  # type: ignore[arg-type]


def test_a_file_that_is_larger_than_any_is_not_read(tmp_path):
    # the time of such a key is the square of its parts
    (tmp_path / "jammi.toml").write_text(".".join(["a"] * 5_001))
    with pytest.raises(jl.InvalidArgument, match=r"it has more than 10 kB"):
        jl.open(tmp_path)


def test_a_file_that_is_nested_too_deeply_cannot_be_read(tmp_path):
    (tmp_path / "jammi.toml").write_text("a = " + "[" * 9_000)
    with pytest.raises(jl.InvalidArgument, match=r"jammi\.toml cannot be read"):
        load_settings(tmp_path, None, {})
    (tmp_path / "jammi.toml").write_text(".".join(["a"] * 2_000) + " = 1")
    # newer releases of Python read at most 1,000 parts
    said = r"There is no setting 'a\.a'|jammi\.toml cannot be read: .* 1000 parts"
    with pytest.raises(jl.InvalidArgument, match=said):
        load_settings(tmp_path, None, {})
