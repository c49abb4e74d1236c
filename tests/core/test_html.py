"""The blocks of every form: escaping, cells, tables in HTML and text."""

import base64
import datetime as dt
import decimal
import html.parser
import re

import pytest

from jammi_lab.core import forms
from jammi_lab.core import html as markup
from jammi_lab.core.forms import table
from jammi_lab.core.html import Rendered, cell, escape_invisible, plain_text

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def drawn(form_html: str) -> list[str]:
    """The tags of a piece of HTML."""

    class Tags(html.parser.HTMLParser):
        found: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.append(tag)
            assert not [name for name, _ in attrs if name.startswith("on") or name == "id"], attrs

    parser = Tags()
    parser.found = []
    parser.feed(form_html)
    return parser.found


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "</td><script>alert(1)</script>",
        '"><svg onload=1>',
        "&lt;b&gt;",
        "' onmouseover='1",
    ],
)
def test_markup_in_a_value_a_name_a_type_a_caption_and_a_note_is_only_text(text):
    form = table(
        [text],
        [[text], [text * 40], [[text]], [{text: text}], [Rendered("", "")]],
        types=[text],
        caption=text,
        note=text,
    )
    assert set(drawn(form.html)) <= {
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "span",
        "br",
    }
    assert set(drawn(forms.form(text, facts=[(text, text)], notes=[text]).html)) <= {
        "div",
        "table",
        "tbody",
        "tr",
        "td",
        "span",
    }


def test_null_the_empty_text_and_the_text_null_look_different():
    forms = [cell(None), cell(""), cell("NULL"), cell(" ")]
    assert [f.text for f in forms] == ["NULL", "''", "'NULL'", "' '"]
    assert len({f.html for f in forms}) == 4


def test_a_long_text_is_cut_and_whole_in_its_title():
    long = "abcde" * 40
    form = cell(long)
    assert len(form.text) <= markup.MAX_TEXT_CHARS and form.text.endswith("…")
    assert (
        f'title="{long}"' in form.html
        and re.sub("<[^>]*>", "", form.html) == long[: markup.MAX_HTML_CHARS - 1] + "…"
    )


def test_a_huge_text_is_bounded_in_its_title_and_says_its_length():
    form = cell("x" * 1_000_000)
    assert len(form.html) < 4_000 and "(1,000,000 characters)" in form.html


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (0.1, "0.1"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (dt.datetime(2024, 1, 31, 9, 30), "2024-01-31 09:30:00"),
        (dt.date(2024, 1, 31), "2024-01-31"),
        (decimal.Decimal("1.20"), "1.20"),
        (b"\x00\xff", "\\x00ff"),
        ([1, None, "a"], "[1, NULL, 'a']"),
        ({"a": True}, "{a: true}"),
        (list(range(1000)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, …"),
    ],
)
def test_values_are_written_as_sql_people_write_them(value, shown):
    assert cell(value).text == shown


def test_control_characters_and_direction_overrides_are_written_out():
    assert escape_invisible("a\nb\u202ec\ud800\x1b[31m") == "a\\nb\\u202ec\\ud800\\x1b[31m"
    assert escape_invisible("日本 é 👩\u200d🔬") == "日本 é 👩\u200d🔬"
    cell("a\ud800").html.encode()


def test_a_text_table_lines_up_under_its_types_also_with_wide_characters():
    form = table(
        ["name", "n"], [["日本", 1], ["ab", 1000]], types=["VARCHAR", "BIGINT"], note="2 rows"
    )
    assert form.text.split("\n") == [
        "name          n",
        "varchar  bigint",
        "───────  ──────",
        "日本          1",
        "ab         1000",
        "2 rows",
    ]


def test_numbers_stand_on_the_right_and_texts_on_the_left():
    form = table(
        ["n", "t", "d"],
        [[1, "a", decimal.Decimal(2)]],
        types=["HUGEINT", "VARCHAR", "DECIMAL(18, 3)"],
    )
    assert re.findall(r"<td style=\"text-align:(\w+)", form.html) == ["right", "left", "right"]


def test_what_stands_in_the_last_left_column_moves_nothing_else():
    short, long = (
        table(["a", "took"], [["x", took]], aligned="ll").text for took in ("1.0 s", "12345.0 s")
    )
    assert short.replace("1.0 s", "T") == long.replace("12345.0 s", "T")


def test_a_form_sets_no_colours_that_a_theme_would_fight_with():
    form = table(["a"], [[None], ["x"]], types=["VARCHAR"], caption="c", note="n")
    assert not re.search(r"(?<![-\w])(color|background)\s*:", form.html)


def test_an_icon_of_a_verdict_has_a_contrast_of_4_5_on_its_own_colour():
    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for word, (icon, colour) in markup.VERDICT_ICONS.items():
        chip = f'<b style="color:#fff;background-color:{colour};'
        assert chip in markup.verdict_icon(word).html and icon in markup.verdict_icon(word).html
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5, word


def test_a_picture_is_an_image_whose_text_stands_for_it():
    image = markup.svg_image("<svg><script>1</script></svg>", 'a "graph" <b>')
    assert drawn(image) == ["img"] and 'alt="a &quot;graph&quot; &lt;b&gt;"' in image
    assert (
        base64.b64decode(re.search('base64,([^"]*)', image)[1]) == b"<svg><script>1</script></svg>"
    )


def test_lengths_of_time_have_the_one_unit_that_comparisons_leave_out():
    assert [markup.format_seconds(s) for s in (0.04, 12.34, 4000.0, None)] == [
        "0.04 s",
        "12.3 s",
        "4000.0 s",
        "",
    ]


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 1024**2, "5.0 MiB"), (None, "")],
)
def test_sizes_are_said_in_binary_units(number, said):
    assert markup.format_bytes(number) == said


def test_whoever_has_a_form_has_both_reprs():
    class Thing(markup.ReprMixin):
        def _rendered(self) -> Rendered:
            return plain_text("<b>")

    assert repr(Thing()) == "<b>" and Thing()._repr_html_() == "&lt;b&gt;"
