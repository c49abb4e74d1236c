"""Ways by which a frame may lose the tables that it was made from: after one of them changed, no
table made from the frame is plainly fresh."""

import re
from collections.abc import Iterator

import pytest

from tests.kernel_ext.conftest import CLEAN, Kernel
from tests.sizes import every_case

NAMES = "import jammi_lab, pandas as pd, polars as pl\nws = jammi_lab.get_workspace()"
ALONE = "import jammi_kernel_ext as _k\nvars(_k._notebook).pop('frames', None)"
CSV = "id,year\n1,2020\n2,2021\n3,2022\n"

FOLLOWED = {
    "dict": ("box = {'a': other}", "out = box['a'].assign(n=1)"),
    "list": ("row = []\nrow.append(other)", "out = row[0].assign(n=1)"),
    "deep": ("box = {'a': {'b': {'c': [other]}}}\nother = None", "out = box['a']['b']['c'][0]"),
    "closure": (
        "def make():\n    inner = other\n    return lambda: inner.copy()\nget = make()\ndel other",
        "out = get()",
    ),
    "argument": ("def f(d):\n    return d.assign(n=1)", "out = f(other)"),
    "global": ("def f():\n    return other.copy()", "out = f()"),
    "default": ("def f(d=other):\n    return d.copy()", "out = f()"),
    "exec": ("exec('out = other.copy()')",),
    "exec by another name": ("run = exec", "run('out = other.copy()')"),
    "globals": ("globals()['out'] = other.copy()",),
    "thread": (
        (
            "import threading\ndef work():\n    global out\n    out = other.copy()\n"
            "t = threading.Thread(target=work)"
        ),
        "t.start(); t.join()",
    ),
    "pickle": ("import pickle\nraw = pickle.dumps(other)", "out = pickle.loads(raw)"),
    "csv text": ("text = other.to_csv()", "import io\nout = pd.read_csv(io.StringIO(text))"),
    "values": ("a = other.values", "out = pd.DataFrame(a, columns=['id', 'year'])"),
    "numpy": ("a = other.id.to_numpy()", "out = pd.DataFrame({'id': a})"),
    "scalar": ("n = int(other.id.sum())", "out = pd.DataFrame({'id': [n]})"),
    "concat": ("out = pd.concat([other, pd.DataFrame({'id': [9]})])",),
    "libraries": ("p = pl.from_pandas(other)", "out = p.with_columns(n=1).to_pandas()"),
    "arrow": ("import pyarrow as pa\nt = pa.Table.from_pandas(other)", "out = t.slice(0, 2)"),
    "del": ("box = [other]\ndel other", "out = box.pop()"),
    "method of a library": (
        "def twice(self):\n    return other.copy()\npd.DataFrame.twice = twice",
        "out = other.twice()",
    ),
    "module": ("import math\nmath.kept = other", "out = math.kept.copy()"),
    "comprehension": ("out = pd.concat([part for _, part in other.groupby('id')])",),
    "run": ("open('r.py', 'w').write('out = other.copy()')\n%run -i r.py",),
    "await": ("async def f():\n    return other.assign(n=1)\nout = await f()",),
    "task": (
        (
            "import asyncio\nasync def f():\n    global out\n    out = other.copy()\n"
            "task = asyncio.ensure_future(f())"
        ),
        "await task",
    ),
    "deepcopy": ("import copy\nbox = copy.deepcopy({'a': other})", "out = box['a']"),
    "generator": ("def g():\n    yield other.copy()\nit = g()", "out = next(it)"),
    "class": ("class K:\n    kept = other", "out = K.kept.copy()"),
    "slots": ("class K:\n    __slots__ = ('d',)\nk = K()\nk.d = other", "out = k.d"),
    "cache": (
        "import functools\n@functools.lru_cache\ndef get():\n    return other.copy()\nget()",
        "del other",
        "out = get()",
    ),
    "bound method": ("m = other.assign\ndel other", "out = m(n=1)"),
    "partial": ("import functools\np = functools.partial(pd.DataFrame.copy, other)", "out = p()"),
    "contextvar": (
        "import contextvars\nc = contextvars.ContextVar('c'); c.set(other)",
        "out = c.get()",
    ),
    "output": ("other", "out = _.copy()"),
    "callback": (
        (
            "def cb(*_):\n    global out\n    out = other.copy()\n"
            "get_ipython().events.register('post_run_cell', cb)"
        ),
        "1",
        "get_ipython().events.unregister('post_run_cell', cb)",
    ),
    "fetched rows": ("rows = ws.sql('FROM jammi.other').fetchall()", "out = pd.DataFrame(rows)"),
    "own module": (
        (
            "open('own.py', 'w').write('kept = None\\ndef get():\\n    return kept.copy()')\n"
            "import sys; sys.path.insert(0, '')\nimport own\nown.kept = other"
        ),
        "import own\nout = own.get()",
    ),
    "query": ("out = pd.DataFrame({'id': [1, 2]}).query('id < @other.id.max()')",),
    "file of the table": ("path = str(ws.table('other').path)", "out = pd.read_parquet(path)"),
    "csv": ("other.to_csv('x.csv')", "out = pd.read_csv('x.csv')"),
    "pickle file": ("other.to_pickle('x.pkl')", "out = pd.read_pickle('x.pkl')"),
    "captured text": (
        "%%capture shown\nprint(other.to_csv(index=False))",
        "import io\nout = pd.read_csv(io.StringIO(shown.stdout))",
    ),
    "variable of the shell": (
        "text = str(other.id.sum())",
        "lines = !echo $text",
        "out = pd.DataFrame({'id': [int(lines[0])]})",
    ),
    "expression of the shell": (
        "lines = !echo {other.id.sum()}",
        "out = pd.DataFrame({'id': [int(lines[0])]})",
    ),
    "written and run": ("%%writefile made.py\nout = other.copy()", "%run -i made.py"),
    "time": ("%time out = other.copy()",),
    "cell that is run": ("get_ipython().run_cell('out = other.copy()')",),
    "magic of one's own": (
        (
            "from IPython.core.magic import register_line_magic\n@register_line_magic\n"
            "def mine(line):\n    global out\n    out = other.copy()"
        ),
        "%mine",
    ),
    "input transformer": (
        (
            "def turn(lines): return [each.replace('ZZ', 'other') for each in lines]\n"
            "get_ipython().input_transformers_post.append(turn)"
        ),
        "out = ZZ.copy()",
        "get_ipython().input_transformers_post.remove(turn)",
    ),
    "display of an object": (
        (
            "class Shown:\n    def _repr_html_(self):\n        global out\n"
            "        out = other.copy()\n        return ''\nshown = Shown()"
        ),
        "shown",
    ),
    "formatter": (
        (
            "form = get_ipython().display_formatter.formatters['text/plain']\n"
            "def show(o, p, c):\n    global out\n    out = other.copy()\n    p.text('')\n"
            "form.for_type(complex, show)"
        ),
        "1j",
        "form.pop(complex)",
    ),
    "output by number": ("other.copy()", "n = max(Out)", "out = Out[n].copy()"),
    "history": ("other.copy()", "out = eval(In[-2])"),
}
"""Cells that make the frame `out` from the frame `other`."""
PUT = "df['year'] = other.year.sum()"
CHANGED = {
    "exec": ("import builtins", f'getattr(builtins, "exec")("{PUT}")'),
    "main": ("import __main__", "__main__.df['year'] = __main__.other.year.sum()"),
    "modules": ("import sys", "m = sys.modules['__main__']\nm.df['year'] = m.other.year.sum()"),
    "gc": (
        "import gc, sys\nsame = [o for o in gc.get_objects() if o is df]",
        "same[0]['year'] = other.year.sum()",
    ),
    "thread": (
        (
            "import _thread, time\ndef f(d):\n    d['year'] = other.year.sum()\n"
            "_thread.start_new_thread(f, (df,)); time.sleep(0.1)"
        ),
    ),
    "pool": (
        (
            "from multiprocessing.pool import ThreadPool as P\ndef f(d):\n"
            "    d['year'] = other.year.sum()\nP(1).map(f, [df])"
        ),
    ),
    "method of a library": (
        "def mark(self):\n    self['year'] = other.year.sum()\npd.DataFrame.mark = mark",
        "df.mark()",
    ),
    "line of a magic": ("%%timeit -n 1 -r 1 total = other.year.sum()\ndf['year'] = total",),
    "name that is no text": ("globals()[3] = 4", PUT, "del globals()[3]"),
    "class of a module that is no text": ("class K:\n    __module__ = 3\nk = K()", PUT, "del k, K"),
    "module that loses its name": ("open('m.py', 'w').write('import __main__')\n%run m.py", PUT),
    "operator": ("import operator", "operator.setitem(df, 'year', other.year.sum())"),
    "bound method": ("put = df.insert", "put(0, 'z', other.year.sum())"),
    "partial": (
        "import functools\np = functools.partial(df.insert, 0, 'z')",
        "p(other.year.sum())",
    ),
    "map": ("list(map(lambda d: d.insert(0, 'z', other.year.sum()), [df]))",),
    "exception": (
        (
            "try:\n    raise ValueError(df)\nexcept ValueError as e:\n"
            "    e.args[0]['year'] = other.year.sum()"
        ),
    ),
    "attrs": ("other.attrs['d'] = df", "other.attrs['d']['year'] = other.year.sum()"),
    "class": ("class K:\n    d = df", "K.d['year'] = other.year.sum()"),
    "operator of a class": (
        (
            "class K:\n    def __init__(self, d): self.d = d\n"
            "    def __add__(self, v): self.d['year'] = v; return self\nk = K(df)"
        ),
        "k + other.year.sum()",
    ),
    "polars": (
        "df = ws.table('base').polars()\nput = df.insert_column",
        "put(0, pl.Series('z', [int(other.year.sum())] * df.height))",
    ),
}
"""Cells that change the frame `df`, read from another table, with what `other` holds."""
GROUNDED = {
    "store": (
        "text = other.to_json()\n%store text\ndel text",
        "%store -r text\nimport io\nout = pd.read_json(io.StringIO(text))",
    ),
    "main": ("import __main__", "__main__.out = __main__.other.copy()\nout = out"),
    "file of the shell": (
        "other.to_csv('x.csv')",
        "!cp x.csv y.csv",
        "out = pd.read_csv('y.csv')",
    ),
    "environment": (
        "%env TOTAL={other.id.sum()}",
        "import os\nout = pd.DataFrame({'id': [int(os.environ['TOTAL'])]})",
    ),
    "syntax transformer": (
        (
            "import ast\nclass Turn(ast.NodeTransformer):\n    def visit_Name(self, node):\n"
            "        return ast.Name('other', node.ctx) if node.id == 'ZZ' else node\n"
            "turn = Turn()\nget_ipython().ast_transformers.append(turn)"
        ),
        "out = ZZ.copy()",
        "get_ipython().ast_transformers.remove(turn)",
    ),
}
"""The same, which are not followed: a ground says so."""
WAYS = [
    *(("grounded", way) for way in GROUNDED),
    *(("followed", way) for way in FOLLOWED),
    *(("changed", way) for way in CHANGED),
]


@pytest.fixture(scope="module")
def verdicts(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The verdict on the table of each way, after the table that `other` was read from changed."""

    def run(*cells: str) -> None:
        for code in cells:
            shown = kernel(code)
            assert shown.error is None, (code, shown.error)

    folder = tmp_path_factory.mktemp("ways")
    for name in ("bases", "others"):
        (folder / f"{name}.csv").write_text(CSV)
    run(f"import os; os.chdir({str(folder)!r})", "%load_ext jammi_lab")
    run("%jammi add bases bases.csv", "%jammi add others others.csv", NAMES)
    run("%%jammi -m base -q\nFROM bases", "%%jammi -m other -q\nFROM others")
    cells_of = {"followed": FOLLOWED, "grounded": GROUNDED, "changed": CHANGED}
    for n, (kind, way) in enumerate(WAYS):
        frame = "df" if kind == "changed" else "out"
        reads = ("other = ws.table('other').pandas()", "df = ws.table('base').pandas()")
        store = f"%%jammi -m t{n} -q\nSELECT * FROM {frame}"
        cells = [*reads[: 1 + (kind == "changed")], *cells_of[kind][way], store]
        run(ALONE, *(re.sub(rf"\b{frame}\b", f"{frame}{n}", code) for code in cells))
    with (folder / "others.csv").open("a") as file:
        file.write("4,2023\n")
    told = kernel.value("{row.name: str(row.verdict) for row in ws.status()}")
    yield dict(re.findall(r"""'(\w+)': ['"](.*?)['"][,}]""", told))
    assert kernel(CLEAN).error is None


@every_case  # one fixture runs all of them
@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_a_table_from_a_frame_is_never_plainly_fresh_after_an_ancestor_changed(
    verdicts: dict[str, str], kind: str, way: str
) -> None:
    verdict = verdicts[f"t{WAYS.index((kind, way))}"]
    is_stale = verdict.startswith("possibly stale: others changed")
    assert is_stale or (kind == "grounded" and verdict.startswith("fresh*")), verdict
