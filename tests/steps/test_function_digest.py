"""The definition of a Python function: what changes it, what does not, and what cannot be told."""

import ast
import decimal
import functools
import gc
import linecache

import pytest

from jammi_lab.steps import function_digest as digests
from jammi_lab.steps.function_digest import function_digest
from jammi_lab.steps.function_source import NoSource, display_source, is_library
from tests.cases import notebooks
from tests.steps.modules import write
from tests.waiting import in_threads

__all__ = ["write"]

TEXT = '''
import dataclasses, datetime, decimal, functools, logging, pathlib, re
import numpy as np
import polars as pl
from json import dumps
from polars import col

log = logging.getLogger("steps")
RATE = 0.5
LIMITS = {"low": 1, "high": (2, 3)}
STOP = frozenset({"a", "b"})
PATTERN = re.compile("a+", re.I)
SINCE = datetime.date(2020, 1, 1)
WEIGHTS = np.array([1.0, 2.0])
FOLDER = pathlib.PurePosixPath("data")
UNUSED = 1

@dataclasses.dataclass
class Config:
    k: int = 3
    name: str = "x"

    def twice(self):
        return self.k * 2

@functools.cache
def cached(x):
    return x + RATE

def helper(x):
    """Half of it."""
    return cached(x) * Config().k  # by the settings

def made(factor):
    def times(x):
        return x * factor
    return times

triple = made(3)
part = functools.partial(helper, 1)

def decorated_by(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)
    return inner

@decorated_by
def wrapped(x):
    return x - 1

def step(papers, *, n=3):
    """What it does."""
    log.info("begun")
    rows = papers.polars().select(col("x"), pl.lit(dumps(n)))
    if PATTERN.match("a") and "a" in STOP and SINCE:
        return [helper(v) * LIMITS["low"] for v in rows] + [triple(1), part(), wrapped(2), WEIGHTS, FOLDER]
    return rows
'''

SAME = {
    "a comment": ("# by the settings", "# by other words"),
    "a docstring": ('"""What it does."""', '"""What it is good for."""'),
    "a docstring that goes": ('    """Half of it."""\n', ""),
    "layout": ("def helper(x):", "def helper(\n    x,\n):"),
    "lines above it": ("import numpy as np", "\n\n\nimport numpy as np"),
    "quotes": ('"begun"', "'begun'"),
    "brackets": ("return x * factor", "return (x * factor)"),
    "a global that is not named": ("UNUSED = 1", "UNUSED = 2"),
    "the order of a set": ('{"a", "b"}', '{"b", "a"}'),
    "an import that is not named": ("import numpy as np", "import numpy as np, json"),
}
DIFFERENT = notebooks("functions/different")


@pytest.mark.parametrize("what", SAME | DIFFERENT)
def test_the_definition_is_another_after_a_change_of_what_is_computed_alone(write, what):
    code = write(TEXT)
    before = code.digest()
    code.change(*(SAME | DIFFERENT)[what])
    assert (code.digest() == before) is (what in SAME)


OTHERWISE = """
import dataclasses, pathlib, types
@dataclasses.dataclass(order=True)
class Row:
    id: int
    tags: list = dataclasses.field(default_factory=list)
Made = dataclasses.make_dataclass("Made", ["x"])
width = 3
"""
IN_EVERY_RELEASE = {
    "a dataclass": ("Row(1)", "6fe4e44b48ad5b11"),
    "a dataclass that a function of Python made": ("Made", "d9fd5c45886debe7"),
    "a class that Python keeps elsewhere": ("pathlib.Path, P", "b680e852f806604f"),
    "a text with values in it": (
        "f'{rows!r:>{width}} {{}} {width:.2f}' f'{width}'",
        "8010e4bf4a4a4628",
    ),
    "a type of Python's own": ("F", "ddd826b891203f2a"),
}


OF_EVERY_RELEASE = f"{OTHERWISE}\nfrom pathlib import Path as P\nF = types.FunctionType\ndef step(rows):\n    return {{}}\n"


@pytest.mark.parametrize("what", IN_EVERY_RELEASE)
def test_the_definition_is_the_same_in_every_release_of_python(write, what):
    """Else all that was made under one would be stale under another."""
    says, digest = IN_EVERY_RELEASE[what]
    code = write(OF_EVERY_RELEASE.format(says))
    assert code.digest()[:16] == digest


def test_two_loads_of_one_file_give_one_definition(write):
    code = write(TEXT)
    before = code.digest()
    code.reload()
    assert code.digest() == before == code.digest()


def test_the_name_of_the_function_does_not_matter(write):
    code = write("def step(p):\n    return p\n")
    before = code.digest()
    code.change("def step", "def other")
    assert function_digest(code.module.other) == before


def test_a_value_is_taken_as_it_is_now_and_not_as_it_was_written(write):
    code = write("RATE = 1\ndef step(p):\n    return RATE\n")
    before = code.digest()
    code.module.RATE = 2
    after = code.digest()
    code.module.RATE = 1
    assert after != before == code.digest()


FRAME_STEP = (
    "import pandas as pd, polars as pl, pyarrow as pa\nA = {}\ndef step(p):\n    return A\n"
)
FRAMES = notebooks("functions/frames")
"""Frames, and changes of them."""
GIVEN = notebooks("functions/given") | {
    what: [FRAME_STEP.format(frame), change] for what, (frame, change) in FRAMES.items()
}


def told(function):
    """The digest of a function, or None where it is refused."""
    try:
        return function_digest(function)
    except NoSource:
        return None


def outcome(write, text, change):
    """Whether a change of what a function does is caught, refused or missed."""
    code = write(text)
    before = told(code.module.step)
    exec(change, vars(code.module))
    after = told(code.module.step)
    if after is None:
        return "refused"
    return "missed" if after == before else "caught"


@pytest.mark.every_case
@pytest.mark.parametrize("what", GIVEN)
def test_what_is_changed_in_the_kernel_is_another_definition_or_refused(write, what):
    assert outcome(write, *GIVEN[what]) in ("caught", "refused")


@pytest.mark.parametrize("what", FRAMES)
def test_a_frame_that_is_read_or_made_again_is_the_same(write, what):
    code = write(FRAME_STEP.format(FRAMES[what][0]))
    before = code.digest()
    exec("str(A), A == A, A.shape, getattr(A, 'values', 0)", vars(code.module))
    assert code.digest() == before
    code.reload()
    assert code.digest() == before


def test_without_the_walk_through_what_a_function_names_most_changes_are_missed(write, monkeypatch):
    """That the cases above are ones that can be missed."""
    monkeypatch.setattr(digests, "global_names", lambda function: set())
    outcomes = [outcome(write, *case) for case in GIVEN.values()]
    assert outcomes.count("missed") > 0.9 * len(GIVEN)


def test_without_the_members_of_classes_changes_of_them_are_missed(write, monkeypatch):
    monkeypatch.setattr(digests, "own_members", lambda cls: {})
    missed = {what for what in GIVEN if outcome(write, *GIVEN[what]) == "missed"}
    assert {"an attribute between underscores", "a number under a special name"} <= missed
    assert len(missed) > 10


def test_a_method_that_a_dataclass_was_given_is_not_taken_for_one_that_was_written_from_its_fields(
    write,
):
    code = write(
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    k: int = 1\ndef step(p):\n    return repr(C())\n"
    )
    code.digest()
    code.module.C.__repr__ = lambda c: "c"
    with pytest.raises(NoSource):
        code.digest()


@pytest.mark.parametrize(
    ("made_by", "name"),
    [
        ("@dataclasses.dataclass\nclass C:\n    k: int = 1", "__eq__"),
        ("@dataclasses.dataclass\nclass C:\n    k: int = 1", "__call__"),
    ],
)
def test_a_special_method_from_text_that_was_executed_is_no_method_of_pythons(write, made_by, name):
    """Both have the file name `<string>`."""
    code = write(f"import dataclasses\n{made_by}\ndef step(p):\n    return C(1)\n")
    code.digest()
    exec(f"def {name}(*_): return True\nC.{name} = {name}", vars(code.module))
    with pytest.raises(NoSource, match="not available"):
        code.digest()


def test_what_was_put_among_pythons_own_is_followed(write, monkeypatch):
    code = write("def mine(rows):\n    return rows[::-1]\ndef step(p):\n    return oct(p)\n")
    digests = {code.digest()}
    for bound in (hex, 1, 2, code.module.mine):
        monkeypatch.setattr("builtins.oct", bound)
        digests.add(code.digest())
    code.change("rows[::-1]", "rows")
    monkeypatch.setattr("builtins.oct", code.module.mine)
    assert len({*digests, code.digest()}) == 6


def test_a_function_that_looks_at_its_docstring_has_it_in_its_definition(write):
    code = write('def step(p):\n    """One."""\n    return step.__doc__\n')
    before = code.digest()
    code.change("One.", "Two.")
    assert code.digest() != before


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (
            "A = {'a': [1]}\ndef helper():\n    return A\ndef step(p):\n    return A, helper()\n",
            "A = {'a': [1]}",
        ),
        ("head = 1\ndef step(p):\n    return p.head()\n", "head = 2"),
    ],
    ids=["an object named by two functions is made again", "an attribute is no global"],
)
def test_what_is_computed_stays_the_same(write, text, change):
    assert outcome(write, text, change) == "missed"


def test_functions_that_call_each_other_have_a_definition(write):
    code = write(
        "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    )
    before = function_digest(code.module.even)
    code.change("n != 0", "n > 0")
    assert function_digest(code.module.even) != before


def test_a_list_that_holds_itself_has_a_form(write):
    code = write("CIRCLE = [1]\nCIRCLE.append(CIRCLE)\ndef step(p):\n    return CIRCLE\n")
    assert len(code.digest()) == 64


def test_what_a_changed_file_says_is_not_taken_for_what_was_loaded_from_it(write):
    code = write("def step(p):\n    return 1\n")
    before, old = code.digest(), code.module.step
    code.edit("return 1", "return 2")
    stale = function_digest(old)
    code.reload()
    after = code.digest()
    assert len({before, stale, after}) == 3


def test_lines_put_in_above_a_loaded_function_change_nothing(write):
    code = write("def step(p):\n    return 1\n")
    before = code.digest()
    code.edit("def step", "\n# a word\n\ndef step")
    assert code.digest() == before


def test_a_helper_from_another_module_of_the_person_is_followed_and_a_module_is_not(write):
    helpers = write("def clean(x):\n    return x\n", "own_helpers")
    named = write("from own_helpers import clean\ndef step(p):\n    return clean(p)\n")
    by_module = write("import own_helpers\ndef step(p):\n    return own_helpers.clean(p)\n")
    before = function_digest(named.module.step), function_digest(by_module.module.step)
    helpers.change("return x", "return x + 1")
    named.reload()
    assert (
        function_digest(named.module.step) != before[0]
        and function_digest(by_module.module.step) == before[1]
    )


REFUSED = notebooks("functions/refused")


@pytest.mark.parametrize("started_with", ["ws.compute(step)", "def step(p):\n    return p"])
def test_the_text_that_python_was_started_with_is_no_source_of_what_was_executed(
    write, monkeypatch, started_with
):
    lines = [f"{line}\n" for line in started_with.split("\n")]
    monkeypatch.setitem(linecache.cache, "<string>", (len(started_with), None, lines, "<string>"))
    with pytest.raises(NoSource, match="not available"):
        function_digest(write(REFUSED["text that was executed"][0]).module.step)
    for says, digest in (
        IN_EVERY_RELEASE[each] for each in IN_EVERY_RELEASE if "dataclass" in each
    ):
        assert function_digest(write(OF_EVERY_RELEASE.format(says)).module.step)[:16] == digest


@pytest.mark.parametrize("what", REFUSED)
def test_no_definition_can_be_told_of(write, what):
    text, named = REFUSED[what]
    code = write(text)
    with pytest.raises(NoSource) as caught:
        code.digest()
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "function",
    [len, str.upper, functools.cache(lambda: 1), int],
    ids=["builtin", "method", "cached", "type"],
)
def test_what_was_not_written_in_python_has_no_definition(function):
    with pytest.raises(NoSource):
        function_digest(function)


def test_installed_packages_and_python_are_libraries_and_the_persons_code_is_not(write):
    import numpy
    import polars

    code = write("x = 1\n")
    assert (
        all(is_library(m.__name__) for m in (numpy, polars, functools))
        and is_library("builtins")
        and is_library("jammi_lab.workspace.result")
    )
    assert not is_library(code.name) and not is_library("__main__")


def test_a_source_is_parsed_again_when_another_thread_disturbed_the_parser(write, monkeypatch):
    step, parse, disturbed = (
        write("def step():\n    return 'disturbed'\n").module.step,
        ast.parse,
        [],
    )

    def once(*args, **options):
        if not disturbed:
            disturbed.append(True)
            raise SystemError("AST constructor recursion depth mismatch (before=39, after=34)")
        return parse(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(ast, "parse", once)
        told = display_source(step)
    assert "disturbed" in told and disturbed


def test_many_threads_read_long_sources_at_once(write):
    """In CPython 3.11 two that parse at the same moment make each other fail, where something runs
    between them: here at each collection."""
    steps = [
        write(
            "\n\n".join(f"def step_{n}(x):\n    return [x + {i}, {n}]" for n in range(400))
        ).module.step_0
        for i in range(24)
    ]
    told = []

    def read(some, depth):
        if depth:
            read(some, depth - 1)
        else:
            told.extend(display_source(step) for step in some)

    def between(*_):
        sum(range(200))

    gc.callbacks.append(between)
    try:
        in_threads(lambda n: read(steps[n::8], 3 * n), range(8))
    finally:
        gc.callbacks.remove(between)
    assert len(told) == 24 and all(told)


NOT_FOLLOWED = notebooks("functions/not_followed")


@pytest.mark.every_case
@pytest.mark.parametrize("what", NOT_FOLLOWED)
def test_what_the_page_of_limits_says_is_not_followed(write, monkeypatch, what):
    """A limit of the guarantee: who wants these followed gives a version."""
    text, change = NOT_FOLLOWED[what]
    monkeypatch.setenv("JAMMI_OF_A_TEST", "")
    module = write(text).module
    before = function_digest(module.step)
    result = repr(module.step(None))
    with decimal.localcontext():
        exec(change, vars(module))
        assert repr(module.step(None)) != result and function_digest(module.step) == before


def test_a_cell_of_a_notebook_with_its_imports_gives_the_definition_of_one_without(monkeypatch):
    """IPython compiles each statement of a cell alone, where a call of a method of an imported name
    has other bytecode than beside the import."""
    imports, step = "import json as pd\n", "def step(r):\n    return pd.dumps(r)  # as text\n"

    def digest(*cells):
        names = {"__name__": "__main__"}
        for text in cells:
            file = f"<cell {len(linecache.cache)}>"
            lines = text.splitlines(keepends=True)
            monkeypatch.setitem(linecache.cache, file, (len(text), None, lines, file))
            for statement in ast.parse(text).body:
                exec(compile(ast.Module([statement], []), file, "exec"), names)
        assert "as text" in display_source(names["step"])
        return function_digest(names["step"])

    assert digest(imports + step) == digest(imports, step)
