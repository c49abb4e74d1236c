"""Names say what they name: VOCABULARY of the project, held by a baseline that may only shrink."""

import ast
import builtins
import collections
import keyword
import re
from collections.abc import Iterator

from tests.shape.code import files, name_of, nodes, parsed

BARE_FUNCTIONS = 0
CONSTANTS_WITHOUT_UNIT = 0
CLASS_NAMES_USED_TWICE = 0
"""The baseline: how many there are today."""

PUBLIC_NAMES = {
    "jammi_lab/features/pictures/lineage_svg.py:derived",
    "widgets/jammi_widgets/map.py:selected",
    "widgets/jammi_widgets/results.py:selected",
}
"""Exempt: `Edge.derived` and `selected()` of panels are documented, and notebooks use them."""

NAMES_FROM_ELSEWHERE = frozenset(
    """
    _ user current_date rowid DESCRIBE _SUCCESS _temporary readline no_var_expand context_matcher
    pre_run_cell post_run_cell maps relevance _version rank_meaning rank_words score ROW secret
    unpinned_at_instant venue A A_1 b p DuckDB ws jl jammi session_lifecycle v1 jammi_catalog py
    make_dataclass new_class SCHEMA distributed Client exact_max_rows _error _input_digest
    """.split()
)
"""Names of other programs, of columns and of examples in docstrings."""

PARTICIPLES = frozenset(
    """
    told asked said found given held seen kept laid meant made taken named called left listed shown
    moved drawn known begun gone written spelt typed counted placed bound done past heard noted
    noticed judged wanted opened closed stopped lost settled sent fitted folded joined united shared
    cut ended passed met owned hindered refused reached sealed attested selected registered returned
    computed derived entered stored built split merged ordered paired padded mixed wrapped checked
    loaded cast guarded chosen rewritten renewed rebuilt foreseen supposed worded barred scoped
    """.split()
)
OTHER_WORDS = frozenset(
    """
    whole above below beside behind inside outside around between before after again later now then
    there here once still yet much few some every all one other both each alone apart among at of on
    by in to as near away back off over out up down aside own ours mine theirs rest afresh anew
    closely slowly hasty narrow discreet
    """.split()
)
UNITS = tuple(
    """
    SECONDS MS NS BYTES ROWS KB MB PERCENT DAYS HOURS MINUTES COLUMNS COUNT SIZE LENGTH WIDTH HEIGHT
    PIXELS BITS CHARS DIMENSIONS VERSION PORT CODE DEPTH DIGITS RATIO FACTOR
    """.split()
)
BOUNDS = ("MAX_", "MIN_", "DEFAULT_")


def is_bare(name: str) -> bool:
    return not name.startswith("__") and name.strip("_") in PARTICIPLES | OTHER_WORDS


def numbers(tree: ast.Module) -> Iterator[tuple[str, float]]:
    """The numeric constants of a module."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=targets, value=ast.Constant(value=int() | float() as value)):
                pass
            case ast.AnnAssign(target=target, value=ast.Constant(value=int() | float() as value)):
                targets = [target]
            case _:
                continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id.isupper() and not isinstance(value, bool):
                yield target.id.strip("_"), value


def test_functions_are_verb_phrases_or_noun_phrases():
    bare = [
        f"{name_of(file)}:{node.lineno} {node.name}"
        for file in files()
        for node in nodes(file)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and is_bare(node.name)
        and f"{name_of(file)}:{node.name}" not in PUBLIC_NAMES
    ]
    assert len(bare) == BARE_FUNCTIONS, bare


def test_numeric_constants_name_their_unit():
    without = [
        f"{file} {name} = {value}"
        for file in files()
        for name, value in numbers(parsed(file))
        if not name.startswith(BOUNDS) and not name.endswith(UNITS)
    ]
    assert len(without) == CONSTANTS_WITHOUT_UNIT, without


def test_no_two_public_classes_share_a_name():
    found = collections.defaultdict(list)
    for file in files():
        for node in parsed(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(file)
    twice = {name: where for name, where in found.items() if len(where) > 1}
    assert len(twice) == CLASS_NAMES_USED_TWICE, twice


def words_of(nodes: list[ast.AST]) -> set[str]:
    """Identifiers and words of strings in a module, but for its docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    words: set[str] = set(keyword.kwlist)
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                words |= set(re.findall(r"\w+", text))
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                words.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.keyword(arg=str(name)):
                words.add(name)
            case ast.alias(name=name, asname=alias):
                words |= {*name.split("."), alias or name}
    return words


def names_in(docstring: str) -> Iterator[str]:
    """Names in backticks, and the errors that are raised."""
    for quoted in re.findall(r"`([A-Za-z_][\w.]*)(?:\(\))?`", docstring):
        yield from quoted.split(".")
    for sentence in re.findall(r"\b(?:R|r)aises ([^.]*)", docstring):
        yield from re.findall(r"\b[A-Z][a-z]+[A-Z]\w+|\b[A-Z][a-z]+ing\b", sentence)


def test_docstrings_name_what_there_is():
    """A parameter that is renamed keeps its old name in the text. Names of the signature come
    first; else the module or a definition anywhere must have the name."""
    definitions = {
        node.name
        for file in files()
        for node in nodes(file)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    stale = []
    for file in files():
        known = words_of(nodes(file)) | definitions | NAMES_FROM_ELSEWHERE | vars(builtins).keys()
        for node in nodes(file):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                stale += [
                    f"{name_of(file)}:{node.lineno} {node.name}: {name}"
                    for name in names_in(text)
                    if name not in known
                ]
    assert not stale, "\n".join(stale)


def test_no_annotation_is_read_as_a_method_of_its_class():
    """Python 3.14 evaluates annotations late: in a class with a method `list`, `list[int]` is an item of that method."""
    read_late = set[str]()
    for file in files():
        if any(
            isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in parsed(file).body
        ):
            continue
        for kind in nodes(file):
            if not isinstance(kind, ast.ClassDef):
                continue
            methods = [
                n for n in kind.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            names = {method.name for method in methods}
            annotations = [method.returns for method in methods]
            annotations += [
                a.annotation for m in methods for a in ast.walk(m.args) if isinstance(a, ast.arg)
            ]
            annotations += [n.annotation for n in kind.body if isinstance(n, ast.AnnAssign)]
            read = {
                n.id
                for each in annotations
                if each
                for n in ast.walk(each)
                if isinstance(n, ast.Name)
            }
            read_late |= {f"{name_of(file)} {kind.name}.{name}" for name in names & read}
    assert not read_late
