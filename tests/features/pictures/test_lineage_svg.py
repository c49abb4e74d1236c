"""The static picture of a lineage and its tree of text."""

import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from jammi_lab.core.checks import CheckMark, CheckStatus
from jammi_lab.core.records import Edge
from jammi_lab.features.pictures.lineage_svg import MAX_NODES, render_lineage
from jammi_lab.features.pictures.mermaid import mermaid_text
from jammi_lab.freshness.lineage import Node
from jammi_lab.freshness.node_states import NO_STATES, NodeStates

NODES = [
    Node("source", "papers"),
    Node("frame", "scores"),
    Node("sql", "venues", 2),
    Node("sql", "board", 1),
]
EDGES = [
    Edge("papers", "venues", "source_version"),
    Edge("scores", "board", "source_version"),
    Edge("venues", "board", "result_digest"),
]
STATES = NodeStates({NODES[2]: "stale", NODES[3]: "possibly stale"})


def drawing(html: str) -> ET.Element:
    return ET.fromstring(base64.b64decode(re.search('base64,([^"]*)', html)[1]))


def texts(svg: ET.Element) -> list[str]:
    return ["".join(t.itertext()) for t in svg.iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_names_every_node_its_kind_and_its_verdict():
    shown = texts(drawing(render_lineage(NODES, EDGES, STATES).html))
    assert {
        "papers",
        "source",
        "scores",
        "frame",
        "venues",
        "sql, version 2",
        "● stale",
        "~ possibly stale",
    } <= set(shown)


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x>", "a<br>b", "#lt;b#gt;", "&lt;b&gt;", "`**b**`", '"]; click n0 "https://x"',
        '%%{init: {"theme": "dark"}}%%', "$$x^2$$", "a\\nb",
    ],
)  # fmt: skip
def test_a_name_is_text_in_mermaid(name):
    [_, line] = mermaid_text([Node("sql", name)], [], NO_STATES).splitlines()
    label = line.removeprefix('  n0["').removesuffix('"]')
    assert not set(re.sub(r"#\d+;", "", label)) & set('"#$%&<>`{}\\')
    assert re.sub(r"#(\d+);", lambda code: chr(int(code[1])), label) == name


def test_sources_frames_and_recipes_have_different_shapes():
    parts = drawing(render_lineage(NODES, EDGES).html).iter()
    shapes = [
        re.sub(r"[-\d.]+", "", part.get("d", part.tag))
        for part in parts
        if part.get("class") == "jammi-shape"
    ]
    assert len(set(shapes[:3])) == 3 and shapes[2] == shapes[3]


def test_there_is_one_line_for_each_edge():
    svg = drawing(render_lineage(NODES, EDGES).html)
    [edges] = [g for g in svg.iter() if g.get("class") == "jammi-edges"]
    assert len(edges) == len(EDGES) and edges.get("marker-end") == "url(#a)"


def test_what_changed_stands_in_its_node_with_versions_and_rows_in_full():
    change = "version 1 → 2, 1,040,000 → 1,041,000 rows"
    form = render_lineage(NODES, EDGES, replace(STATES, changes={NODES[2]: change}))
    assert f"Δ {change}" in texts(drawing(form.html))
    assert "sql, version 2" not in texts(drawing(form.html))


def test_a_source_and_a_recipe_of_one_name_stay_two_nodes():
    nodes = [Node("source", "a"), Node("sql", "a", 1), Node("sql", "b", 1)]
    form = render_lineage(
        nodes, [Edge("a", "a", "source_version"), Edge("a", "b", "result_digest")]
    )
    assert form.text.split("\n") == [
        "a (source)",
        "└─ a (sql, version 1)",
        "   └─ b (sql, version 1)",
    ]


def test_the_text_for_the_picture_says_the_verdicts():
    assert (
        'alt="Lineage: papers (source), scores (frame), venues (stale), board (possibly stale)"'
        in render_lineage(NODES, EDGES, STATES).html
    )


def test_checks_are_small_marks_on_their_nodes_and_words_in_the_tree():
    marks = [
        CheckMark("1 pass", CheckStatus.PASS),
        None,
        CheckMark("1 of 2 fails", CheckStatus.FAIL, 1),
        CheckMark("2 due", CheckStatus.DUE),
    ]
    found = {node: mark for node, mark in zip(NODES, marks, strict=True) if mark}
    form = render_lineage(NODES, EDGES, replace(STATES, checks=found))
    svg = drawing(form.html)
    assert texts(svg)[2:].count("✕") == texts(svg).count("✓") == texts(svg).count("?") == 1
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) == 3
    titles = [t.text for t in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert "venues, sql, version 2, stale, checks: 1 of 2 fails" in titles
    assert "Checks of venues: 1 of 2 fails" in titles and "scores, frame" in titles
    assert "venues (sql, version 2): stale, checks: 1 of 2 fails" in form.text
    assert form.text.startswith("papers (source): checks: 1 pass\n")


def test_the_same_graph_is_the_same_picture():
    assert render_lineage(NODES, EDGES, STATES) == render_lineage(NODES, EDGES, STATES)


def test_no_nodes_are_said_in_words():
    assert render_lineage([], []).text == "No lineage yet."


def test_of_a_large_graph_what_is_near_the_focus_is_drawn_and_the_rest_counted():
    nodes = [Node("sql", f"t{i}", 1) for i in range(1000)]
    edges = [Edge(f"t{i}", f"t{i + 1}", "result_digest") for i in range(999)]
    form = render_lineage(nodes, edges, focus="t500")
    names = {t for t in texts(drawing(form.html)) if t.startswith("t")}
    assert len(names) == MAX_NODES and {"t499", "t500", "t501"} <= names
    assert "120 of 1,000 nodes are drawn" in form.html and "more nodes" in form.text


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=1>",
        '"/><script>1</script>',
        "]]>",
        "a\x00b\u202e\ud800",
        "&amp;",
        "x" * 300,
    ],
)
def test_a_hostile_name_acts_neither_in_the_picture_nor_around_it(name):
    nodes = [Node("source", name), Node("sql", "b", 1)]
    states = NodeStates(held={nodes[1]: name}, changes={nodes[0]: name})
    form = render_lineage(nodes, [Edge(name, "b", "source_version")], states)
    svg = drawing(form.html)
    assert {element.tag.rsplit("}")[1] for element in svg.iter()} <= {
        "svg",
        "defs",
        "marker",
        "path",
        "g",
        "circle",
        "title",
        "rect",
        "text",
        "tspan",
    }
    assert re.sub(r'"[^"]*"', '""', form.html) == '<div style=""><img src="" alt="" style=""></div>'
    form.html.encode()
    form.text.encode()


def test_the_picture_brings_its_own_fills_and_no_background():
    svg = drawing(render_lineage(NODES, EDGES, STATES).html)
    assert svg.find("{http://www.w3.org/2000/svg}rect") is None
    nodes = [g for g in svg.iter() if g.get("class") == "jammi-node"]
    assert len(nodes) == len(NODES) and all(g.get("fill") for g in nodes)
