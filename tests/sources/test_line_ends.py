"""A CSV file of which not all lines end in the same way is told as that, with the line."""

import pytest

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.verdicts import Stale


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a,b\r\n1,2\r\n3,4\n", r"line 3: it ends in \n, the lines before it end in \r\n."),
        (b"a,b\n1,2\r\n3,x\n", r"line 2: it ends in \r\n, the lines before it end in \n."),
        (b'a,b\r\n1,"x\ny"\r\n3,4\n', r"line 4: it ends in \n, the lines before it end in \r\n."),
        (b"a,b\r\n1,2\n3,4,5\r\n", r"line 2: it ends in \n, the lines before it end in \r\n."),
        (
            b"a,b\r\n" + b"1,2\r\n" * 25 + b'3,"4\n',
            "line 27: a quotation mark is not closed, or stands inside a value: '3,\"4'.",
        ),
    ],
)
def test_a_line_that_ends_otherwise_is_told_unless_something_else_is_wrong(
    ws, tmp_path, text, said
):
    (tmp_path / "f.csv").write_bytes(text)
    with pytest.raises(SourceUnavailable) as caught:
        ws.sources.add("s", tmp_path / "f.csv")
    assert caught.value.message == f"f.csv, {said}" and caught.value.hint


@pytest.mark.parametrize(("digits", "lines"), [(1, 20_200), (1, 150_000), (36, 230_000)])
def test_a_line_that_is_added_to_a_long_file_with_another_end_is_named(ws, tmp_path, digits, lines):
    """The last is beyond the sample."""
    line = b"1," + b"2" * digits + b"\r\n"
    (tmp_path / "f.csv").write_bytes(b"a,b\r\n" + line * lines + b"3,4\n")
    said = rf"f\.csv, line {lines + 2}: it ends in \\n"
    with pytest.raises(SourceUnavailable, match=said):
        ws.sources.add("s", tmp_path / "f.csv")


def test_a_line_that_a_notebook_adds_with_another_end_makes_a_table_stale_with_what_is_wrong_with_it(
    ws, tmp_path
):
    (tmp_path / "f.csv").write_bytes(b"a,b\r\n1,2\r\n")
    ws.sources.add("s", tmp_path / "f.csv")
    ws.materialize("t", "SELECT a FROM s")
    with (tmp_path / "f.csv").open("ab") as file:
        file.write(b"3,4\n")
    verdict = ws.staleness("t")
    assert isinstance(
        verdict, Stale
    ) and r"f.csv, line 3: it ends in \n, the lines before it end in \r\n" in str(verdict)
