"""Loading and unloading: light, twice is once, and back to exactly what was there."""

import json
from types import SimpleNamespace

import pytest

from jammi_kernel_ext import _LazyMagics
from jammi_kernel_ext.notebook import Notebook
from tests.kernel_ext.test_completion import asked

STATE = """
ip = get_ipython()
ip._find_with_lazy_load('line', 'load_ext')  # IPython makes the magic itself when it is first asked for
def state():
    manager = ip.magics_manager.magics
    return (manager['line'].get('jammi'), manager['cell'].get('jammi'), sorted(manager['line']), sorted(manager['cell']),
            {k: list(v) for k, v in ip.events.callbacks.items()},
            {k: (dict(f.type_printers), dict(f.deferred_printers)) for k, f in ip.display_formatter.formatters.items()}, ip.custom_exceptions,
            list(ip.configurables), list(ip.Completer.custom_matchers), dict(ip.config),
            list(ip.input_transformers_cleanup), list(ip.input_transformers_post))
"""
HEAVY = "altair polars pandas pyarrow duckdb numpy sqlalchemy usearch sqlglot fsspec ipywidgets anywidget".split()


def test_unloading_restores_what_was_there(bare):
    bare(STATE + "before = state()")
    bare(
        "%load_ext jammi_lab\n%jammi status\nduring = state()\n%unload_ext jammi_lab\nafter = state()"
    )
    assert bare.value("before == after, before == during") == "(True, False)"
    assert bare("%jammi").stream.startswith("UsageError") or "not found" in (
        bare("%jammi").stream + str(bare("%jammi").error)
    )


def test_sql_is_a_second_name_of_the_cell_where_nobody_else_took_it(bare):
    register = (
        "def sql(line, cell): return 'theirs'\nget_ipython().register_magic_function(sql, 'cell')"
    )
    statement = "%%sql --as pandas\nSELECT 6 * 7 AS n"
    bare("%load_ext jammi_lab")
    assert "42" in bare(statement).text
    code = "%%sql\nSELECT * FROM jammi_catalog.stat"
    assert asked(bare, code, len(code))["matches"] == ["jammi_catalog.status"]
    bare(register + "\n%unload_ext jammi_lab")
    assert bare(statement).text == "'theirs'"
    bare("%load_ext jammi_lab")
    assert bare(statement).text == "'theirs'"
    assert "jammi_catalog.status" not in asked(bare, code, len(code))["matches"]
    bare("%unload_ext jammi_lab\nget_ipython().magics_manager.magics['cell'].pop('sql')")


def test_loading_twice_is_loading_once(bare):
    bare(
        "%load_ext jammi_lab\nimport jammi_kernel_ext as k\nk.load_ipython_extension(get_ipython())"
    )
    bare(
        "n = len(get_ipython().events.callbacks['pre_run_cell'])\n%unload_ext jammi_lab\nm = len(get_ipython().events.callbacks['pre_run_cell'])"
    )
    assert bare.value("n - m") == "1"


def test_reloading_finds_the_workspace_as_it_was(papers):
    papers("a = %jammi\n%reload_ext jammi_lab\nb = %jammi")
    assert papers.value("a is b") == "True"


def test_loading_and_help_load_nothing_heavy(run_python):
    steps = [
        "from IPython.core.interactiveshell import InteractiveShell; ip = InteractiveShell.instance()",
        "import sys; before = set(sys.modules)",
        "ip.run_line_magic('load_ext', 'jammi_lab'); ip.run_line_magic('jammi', 'help')",
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))",
    ]
    loaded = json.loads(run_python("\n".join(steps), start=True).stdout.splitlines()[-1])
    assert not set(HEAVY).intersection(loaded)


def test_the_workspace_of_a_plain_process_is_opened_and_closed_at_its_end(run_python, tmp_path):
    code = f"import os; os.chdir({str(tmp_path)!r}); import jammi_lab as jl; print(jl.get_workspace().path, jl.get_workspace() is jl.get_workspace())"
    assert run_python(code, start=True).stdout.split() == [".jammi", "True"]
    assert not list((tmp_path / ".jammi" / "writers").glob("*.lock"))


@pytest.mark.parametrize("kind", ["line", "cell"])
def test_the_magics_have_a_docstring_for_the_question_mark(cell, kind):
    assert "workspace" in cell.value(
        f"get_ipython().magics_manager.magics[{kind!r}]['jammi'].__doc__"
    )


@pytest.mark.parametrize("passes_contexts", [True, False])
def test_a_completer_that_passes_texts_as_in_ipython_7_is_left_alone(passes_contexts):
    completer = SimpleNamespace(custom_matchers=[])
    if passes_contexts:
        completer.suppress_competing_matchers = None
    shell = SimpleNamespace(Completer=completer, input_transformers_cleanup=[])
    remove = _LazyMagics(Notebook(None)).install_hooks(shell)
    assert len(completer.custom_matchers) == passes_contexts
    remove()
    assert completer.custom_matchers == shell.input_transformers_cleanup == []
