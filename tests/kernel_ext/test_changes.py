"""INSERT, UPDATE and DELETE in a `%%jammi` cell."""


def test_a_change_in_a_cell_says_what_it_did_and_the_variable_holds_its_rows(papers):
    papers(
        "import jammi_lab as jl\nws = jl.get_workspace()\nws.mutable.create('labels', {'id': 'int64', 'label': 'string'}, primary_key=['id']);"
    )
    shown = papers("%%jammi r\nINSERT INTO mutable.labels SELECT id, venue FROM papers")
    assert (
        shown.error is None
        and shown.text.strip() == "4 rows inserted into mutable.labels, version 1"
    )
    assert "4 rows inserted into mutable.labels, version 1" in shown.html
    assert papers("r.fetchall()").text == "[(4,)]"
    papers("threshold = 1")
    shown = papers(
        "%%jammi\nUPDATE mutable.labels SET label = 'x' WHERE id > $threshold RETURNING id"
    )
    assert (
        shown.text.split("\n")[0] == "3 rows updated in mutable.labels, version 2"
        and "id" in shown.text
    )
    shown = papers("%%jammi\nDELETE FROM mutable.labels; SELECT count(*) AS n FROM mutable.labels")
    assert shown.error is None and "0" in shown.text


def test_a_frame_of_the_notebook_can_be_inserted_and_a_mistake_is_five_lines_at_most(papers):
    papers(
        "import jammi_lab as jl, polars\nws = jl.get_workspace()\nws.mutable.create('labels', {'id': 'int64'}, primary_key=['id']);"
    )
    papers("mine = polars.DataFrame({'id': [7, 8]})")
    assert (
        papers("%%jammi\nINSERT INTO mutable.labels FROM mine").text.strip()
        == "2 rows inserted into mutable.labels, version 1"
    )
    shown = papers("%%jammi\nINSERT INTO mutable.labels FROM mine")
    assert shown.ename == "DuplicateKey" and len(shown.error) <= 5 and "7, 8" in shown.error[0]


def test_where_one_is_names_the_mutable_tables_and_the_topics(papers):
    papers(
        "import jammi_lab as jl\nws = jl.get_workspace()\nws.mutable.create('labels', {'id': 'int64'}, primary_key=['id']);"
    )
    papers("ws.topics.register('clicks', {'page': 'string'});")
    lines = [line.split() for line in papers("%jammi").text.splitlines()]
    assert ["mutable", "labels"] in lines and ["topics", "clicks"] in lines
