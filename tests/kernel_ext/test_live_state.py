"""Topics and ephemeral sessions from a cell."""

SETUP = (
    "ws = %jammi\n"
    "ws.topics.register('clicks', {'page': 'string', 'n': 'int64'})\n"
    "for n in range(12):\n"
    "    ws.topics.publish('clicks', [{'page': '<b>', 'n': n}, {'page': 'b', 'n': n}])"
)


def test_topics_are_listed_with_their_columns(cell):
    assert "No topics yet" in cell("%jammi topics").text
    cell(SETUP)
    shown = cell("%jammi topics")
    assert "clicks" in shown.text
    assert "page string, n int64" in shown.text
    assert "12" in shown.text


def test_tail_shows_the_last_events_and_escapes_them(cell):
    cell(SETUP)
    shown = cell("%jammi tail clicks -n 2")
    assert shown.text.count("\n") == 8
    assert "11" in shown.text
    assert " 9 " not in shown.text
    assert "<b>" not in shown.html
    assert "&lt;b&gt;" in shown.html
    assert cell.value("len(get_ipython().run_line_magic('jammi', 'tail clicks'))") == "10"
    missing = cell("%jammi tail click")
    assert (missing.ename, "clicks" in "".join(missing.error)) == ("TopicNotFound", True)


def test_a_session_is_opened_listed_and_closed_by_magic(cell):
    assert cell("%jammi ephemeral open").ename == "NoTenantBinding"
    cell("%jammi tenant acme")
    assert "No ephemeral session is open" in cell("%jammi ephemeral list").text
    opened = cell(
        "s = %jammi ephemeral open --timeout 60\ns.create('notes', {'id': 'int64'}, primary_key=['id'])\ns"
    )
    assert "Ephemeral session of acme: open" in opened.text
    assert "notes" in cell("%jammi ephemeral list").text
    assert "1 session closed" in cell("%jammi ephemeral close").text
    assert "No session is open here" in cell("%jammi ephemeral close").text
    assert cell("s.count_rows('notes')").ename == "SessionClosed"
    assert cell("%jammi ephemeral opn").ename == "InvalidArgument"
