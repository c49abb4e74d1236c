"""Statements as other tools take them: the error says what to write here."""

import pytest


@pytest.mark.parametrize("written", ["{year}", "{{year}}", "{{ year }}", ":year", "%(year)s"])
def test_a_variable_as_other_magics_paste_it_is_told_how_it_is_written_here(papers, written):
    papers("year = 2020")
    shown = papers(f"%%jammi\nSELECT * FROM papers WHERE year = {written}")
    assert (
        shown.ename == "SqlError"
        and shown.error[-1] == "To use the value of a variable, write $year."
    )


def test_a_cast_and_a_struct_are_not_taken_for_variables(papers):
    for statement in (
        "SELECT id::VARCHAR FRM papers WHERE x =",
        "SELECT * FROM papers WHERE id = 1 AND AND",
    ):
        assert "the value of a variable" not in "\n".join(papers(f"%%jammi\n{statement}").error)


def test_a_text_between_double_quotation_marks_is_told_which_ones_it_needs(papers):
    assert papers('%%jammi\nSELECT * FROM papers WHERE venue = "Kyoto"').error[3:] == [
        "Text literals use single quotes: 'Kyoto'."
    ]
    assert papers('%%jammi\nSELECT * FROM papers WHERE "venu" = 1').error[3:] == [
        "Did you mean venue?"
    ]


def test_a_variable_that_is_no_frame_is_told_what_it_is(papers):
    papers("rows, paper = [{'id': 1}], 5")
    told = "The variable rows is not a frame; its type is list: pandas.DataFrame(rows) makes one."
    assert papers("%%jammi\nSELECT * FROM rows").error[-1] == told
    told = papers("%%jammi\nSELECT * FROM paper").error  # although papers is near
    assert told[3:] == ["The variable paper is not a frame; its type is int."]
    assert (
        papers("%%jammi\nSELECT * FROM nothing_like_it").error[-1]
        == "SHOW TABLES lists the available tables."
    )


def test_a_frame_that_is_added_by_its_variable_is_told_how_it_is_named(papers):
    papers("import pyarrow as pa\nsales = pa.table({'id': [1]})")
    for typed in ("sales", "$sales"):
        assert papers(f"%jammi add s {typed}").error[1:] == [
            "FROM can read the frame in sales directly; jammi_lab.get_workspace().sources.add('s', sales) registers it as a source."
        ]
    assert "The folder has papers.csv." in papers("%jammi add s sale").error


def test_explain_in_front_of_a_statement_shows_the_plan_as_the_flag_does(papers):
    shown = papers("%%jammi e\nEXPLAIN SELECT venue, count(*) FROM papers GROUP BY 1")
    assert "READ_CSV" in shown.text and papers.value("type(e).__name__") == "'Explanation'"
    assert "Total Time" in papers("%%jammi\nexplain analyze\nSELECT count(*) FROM papers;").text
    assert papers("%%jammi\nEXPLAIN SELECT 1; SELECT 2 AS two").text.startswith("    two")


def test_the_condition_of_embed_is_marked_and_not_a_statement_that_nobody_typed(papers):
    line = "%jammi embed v papers --key id --model hashing --text"
    assert papers(f"{line} venue --where 'yeer > 1'").error == [
        "SqlError: There is no column yeer in papers.",
        "yeer > 1",
        "^",
        "Did you mean year?",
    ]
    assert papers(f"{line} venue --where 'year >'").error[1:3] == ["year >", "      ^"]
    assert papers(f"{line} tittle").error == [
        "SchemaMismatch: 'papers' has no column 'tittle'.",
        "Its columns are id, venue, year.",
    ]


def test_a_new_workspace_beside_another_one_is_told(papers):
    """After `%jammi close`, and in another folder, an empty one would be opened without a word."""
    papers("%jammi close\n%jammi open lab\n%jammi close\nimport shutil\nshutil.rmtree('.jammi')")
    shown = papers("%jammi status")
    assert shown.error == [
        "WorkspaceNotFound: The cells have no workspace yet. Here is lab.",
        "%jammi open ./lab opens it (in Python jl.open('lab')), %jammi open .jammi a new one.",
    ]
    assert papers.value("__import__('os').path.exists('.jammi')") == "False"
    papers("import jammi_lab as jl")
    shown = papers("jl.open('labs').table('regions')")
    assert "near this empty one: lab." in shown.error[-1]


@pytest.mark.parametrize(
    ("statement", "is_told"),
    [
        ("SELECT count(*), max(id) FROM papers WHERE venue = 'b'", True),
        ("SELECT id FROM papers p WHERE p.\"Venue\" = 'b '", True),
        ("SELECT day FROM times WHERE venue = 'b'", True),
        ("SELECT day FROM times WHERE venue = 'B'", False),
        ("SELECT * FROM papers WHERE venue = 'Atlantis'", False),
        ("SELECT count(*) FROM papers WHERE venue = 'B'", False),
        ("SELECT t.* FROM papers JOIN low t USING (id) WHERE t.venue = 'b' AND t.id < 0", False),
        (
            "SELECT max(l) FROM (SELECT lower(venue) AS l, lower(venue) AS venue FROM papers) WHERE venue = 'b'",
            False,
        ),
        ("SELECT * FROM papers WHERE 'venue = ''b''' = 'y'", False),
        ("DELETE FROM mutable.notes WHERE venue = 'b'", False),
    ],
)
def test_a_text_that_is_there_in_another_form_is_told(papers, statement, is_told):
    papers(
        "import pyarrow as pa\n"
        "low = pa.table({'id': [1], 'venue': ['b']})\n"
        "times = pa.table({'venue': ['B'], 'day': pa.array([5_000_000], pa.date32())})\n"
        "import jammi_lab as jl\nws = jl.get_workspace()\n"
        "notes = ws.mutable.create('notes', {'venue': 'VARCHAR'}, primary_key=['venue'])\n"
        "notes.insert([{'venue': 'B'}])"
    )
    shown = papers(f"%%jammi\n{statement}")
    assert shown.error is None
    assert ("has 'B', and no 'b" in shown.text + shown.stream) is is_told, shown.text
    if statement.startswith("DELETE"):
        assert papers.value("len(ws.mutable['notes'].read().fetchall())") == "1"
