"""Cells that change a frame in ways that are easy to overlook: what is stored from it is never
fresh without its tables."""

import asyncio
import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import jammi_lab as jl
from jammi_kernel_ext.cell_flow import CellFlow
from jammi_kernel_ext.frame_follower import FrameFollower
from jammi_lab.core.anchors import FrameOrigin
from jammi_lab.sources.frame_origins import origins
from jammi_lab.steps.sql import Sql
from tests.freshness.lab import Lab
from tests.inside import services_of
from tests.kernel_ext.second_attacks import SECOND
from tests.sizes import sized, soak
from tests.stateful.notebooks import start

FIRST = "import copy, functools, itertools, operator, pickle\nimport duckdb\nimport numpy as np\nimport pandas as pd\nimport polars as pl\nclass Box: pass"
BASE = [
    "df = ws.table('s0').pandas().assign(x=lambda d: d.x + 1)",
    "other = ws.table('s1').pandas()",
]
ATTACKS = {
    "alias same cell": ("df", ["a = df\na['x'] = other.x.sum()"]),
    "alias tuple": ("df", ["a, b = df, 1\na['x'] = other.x.sum()"]),
    "for tuple": ("df", ["for k in (df,):\n    k['x'] = other.x.sum()"]),
    "walrus": ("df", ["(k := df)['x'] = other.x.sum()"]),
    "with as": (
        "df",
        ["import contextlib\nwith contextlib.nullcontext(df) as k:\n    k['x'] = other.x.sum()"],
    ),
    "match as": ("df", ["match df:\n    case k:\n        k['x'] = other.x.sum()"]),
    "star list": ("df", ["[*ks] = [df]\nks[0]['x'] = other.x.sum()"]),
    "query at": (
        "df",
        [
            "n = other.x.sum()",
            "df = df.assign(x=0).query('id < @n').assign(x=lambda d: d.eval('id + @n'))",
        ],
    ),
    "eval at": ("df", ["n = other.x.sum()", "df = df.eval('x = id + @n')"]),
    "pd.eval": ("df", ["n = other.x.sum()", "df = df.assign(x=pd.eval('n + 1'))"]),
    "duckdb": ("df", ["df = duckdb.sql('SELECT * FROM other').df()"]),
    "duckdb join": (
        "df",
        ["df = duckdb.sql('SELECT df.id, other.x FROM df JOIN other USING (id)').df()"],
    ),
    "duckdb var": (
        "df",
        ["q = 'SELECT df.id, other.x FROM df JOIN other USING (id)'", "df = duckdb.sql(q).df()"],
    ),
    "duckdb con": (
        "df",
        [
            "con = duckdb.connect()\nr = con.execute('SELECT df.id, other.x FROM df JOIN other USING (id)')",
            "df = r.df()",
        ],
    ),
    "duckdb fn": (
        "df",
        [
            "def q():\n    return 'SELECT df.id, other.x FROM df JOIN other USING (id)'",
            "df = duckdb.sql(q()).df()",
        ],
    ),
    "duckdb split": (
        "df",
        [
            "t = 'oth' + 'er'",
            "df = duckdb.sql(f'SELECT df.id, {t}.x FROM df JOIN {t} USING (id)').df()",
        ],
    ),
    "polars sql": (
        "df",
        ["po = pl.from_pandas(other)", "df = pl.sql('SELECT * FROM po', eager=True).to_pandas()"],
    ),
    "polars sqlcontext": (
        "df",
        [
            "po = pl.from_pandas(other)\npd0 = pl.from_pandas(df)",
            "df = pl.SQLContext(register_globals=True).execute('SELECT pd0.id, po.x FROM pd0 JOIN po ON pd0.id = po.id', eager=True).to_pandas()",
        ],
    ),
    "generator": ("df", ["g = (float(other.x.sum()) for _ in range(1))", "df['x'] = next(g)"]),
    "generator fn": (
        "df",
        ["def gen():\n    yield float(other.x.sum())\nit = gen()", "df['x'] = next(it)"],
    ),
    "closure": (
        "df",
        ["def mk():\n    o = other\n    return lambda: o.x.sum()\nf = mk()", "df['x'] = f()"],
    ),
    "partial data": ("df", ["p = functools.partial(lambda o: o.x.sum(), other)", "df['x'] = p()"]),
    "partial mutates": (
        "df",
        ["def gn(d):\n    d['x'] = other.x.sum()\np = functools.partial(gn)", "p(df)"],
    ),
    "partial mutates2": (
        "df",
        ["def gn(d, o):\n    d['x'] = o.x.sum()\np = functools.partial(gn)", "p(df, other)"],
    ),
    "map mutates": ("df", ["def gn(d):\n    d['x'] = other.x.sum()", "kept = list(map(gn, [df]))"]),
    "map lambda": (
        "df",
        [
            "kept = list(map(lambda d: d.insert(0, 'w', other.x.sum()), [df]))",
            "df = df.assign(x=df.get('w', 0))",
        ],
    ),
    "map lambda setitem": (
        "df",
        ["kept = list(map(lambda d: d.__setitem__('x', other.x.sum()), [df]))"],
    ),
    "reduce": (
        "df",
        [
            "def gn(a, d):\n    d['x'] = other.x.sum()\n    return d",
            "kept = functools.reduce(gn, [df], df)",
        ],
    ),
    "sorted key": (
        "df",
        ["def gn(d):\n    d['x'] = other.x.sum()\n    return 1", "kept = sorted([df], key=gn)"],
    ),
    "bound insert": ("df", ["m = df.__setitem__", "m('x', other.x.sum())"]),
    "bound append": ("df", ["row = []\nap = row.append", "ap(other)", "df['x'] = row[0].x.sum()"]),
    "operator.setitem": ("df", ["operator.setitem(df, 'x', other.x.sum())"]),
    "methodcaller": (
        "df",
        ["mc = operator.methodcaller('__setitem__', 'x', other.x.sum())", "mc(df)"],
    ),
    "vectorize": (
        "df",
        [
            "def gn(i):\n    df.loc[i, 'x'] = other.x.sum()\n    return 0\nv = np.vectorize(gn)",
            "kept = v([0, 1])",
        ],
    ),
    "monkeypatch method": (
        "df",
        ["pd.DataFrame.mix = lambda self: self.assign(x=other.x.sum())", "df = df.mix()"],
    ),
    "accessor": (
        "df",
        [
            "@pd.api.extensions.register_dataframe_accessor('acc')\nclass Acc:\n    def __init__(self, d): self.d = d\n    def mix(self): return self.d.assign(x=other.x.sum())",
            "df = df.acc.mix()",
        ],
    ),
    "singledispatch": (
        "df",
        [
            "@functools.singledispatch\ndef fix(d): return d",
            "@fix.register\ndef _(d: pd.DataFrame): return d.assign(x=other.x.sum())",
            "df = fix(df)",
        ],
    ),
    "lru_cache": (
        "df",
        ["@functools.lru_cache\ndef tot(): return float(other.x.sum())", "df['x'] = tot()"],
    ),
    "class attr": ("df", ["Box.o = other", "df['x'] = Box.o.x.sum()"]),
    "class attr inst": ("df", ["b = Box()", "Box.o = other", "df['x'] = b.o.x.sum()"]),
    "class prop": (
        "df",
        [
            "class P:\n    @property\n    def t(self): return other.x.sum()\np = P()",
            "df['x'] = p.t",
        ],
    ),
    "inherit": (
        "df",
        ["class Q(Box):\n    def t(self): return other.x.sum()\nq = Q()", "df['x'] = q.t()"],
    ),
    "getattr dunder": (
        "df",
        [
            "class G:\n    def __getattr__(self, n): return other.x.sum()\ng = G()",
            "df['x'] = g.anything",
        ],
    ),
    "iter": ("df", ["it = iter([other])", "df['x'] = next(it).x.sum()"]),
    "pickle": ("df", ["s = pickle.dumps(other)", "df = pickle.loads(s)"]),
    "json str": ("df", ["s = other.to_json()", "import io\ndf = pd.read_json(io.StringIO(s))"]),
    "bytesio": (
        "df",
        ["import io\nbuf = io.BytesIO()\nother.to_parquet(buf)", "df = pd.read_parquet(buf)"],
    ),
    "stringio": (
        "df",
        [
            "import io\nbuf = io.StringIO()",
            "other.to_csv(buf, index=False)\nbuf.seek(0)",
            "df = pd.read_csv(buf)",
        ],
    ),
    "np view": (
        "df",
        [
            "arr = np.zeros(2)\ndf = pd.DataFrame({'id': [1, 2], 'x': arr}, copy=False)",
            "arr[:] = other.x.sum()",
        ],
    ),
    "np view2": (
        "df",
        ["arr = df['x'].values", "arr.setflags(write=True)\narr[:] = other.x.sum()"],
    ),
    "np out": (
        "df",
        ["arr = np.zeros(2)", "np.add(other.x.to_numpy(), 0, out=arr)", "df['x'] = arr"],
    ),
    "np out pos": (
        "df",
        ["arr = np.zeros(2)", "np.add(other.x.to_numpy(), 0, arr)", "df['x'] = arr"],
    ),
    "series view": ("df", ["s = df['x']", "s.iloc[:] = other.x.sum()\ndf['x'] = s"]),
    "memoryview": (
        "df",
        [
            "arr = np.zeros(2)\nmv = memoryview(arr)",
            "mv[0] = float(other.x.sum())",
            "df['x'] = arr",
        ],
    ),
    "array array": (
        "df",
        [
            "import array\nar = array.array('d', [0, 0])",
            "ar[0] = float(other.x.sum())",
            "df['x'] = list(ar)",
        ],
    ),
    "ctypes": (
        "df",
        [
            "import ctypes\nbuf = (ctypes.c_double * 2)()",
            "buf[0] = float(other.x.sum())",
            "df['x'] = list(buf)",
        ],
    ),
    "dict default": (
        "df",
        [
            "from collections import defaultdict\nd = defaultdict(lambda: other.x.sum())",
            "df['x'] = d['k']",
        ],
    ),
    "deque": (
        "df",
        [
            "from collections import deque\nq = deque()",
            "q.append(other)",
            "df['x'] = q.pop().x.sum()",
        ],
    ),
    "chainmap": (
        "df",
        [
            "from collections import ChainMap\nbase = {}\ncm = ChainMap(base)",
            "base['k'] = other.x.sum()",
            "df['x'] = cm['k']",
        ],
    ),
    "env": (
        "df",
        ["import os\nos.environ['TOT'] = str(other.x.sum())", "df['x'] = float(os.environ['TOT'])"],
    ),
    "env2": (
        "df",
        ["import os\nos.environ['TOT'] = str(other.x.sum())", "df['x'] = float(os.getenv('TOT'))"],
    ),
    "putenv alias": (
        "df",
        [
            "import os\nos.environ.update(TOT=str(other.x.sum()))",
            "from os import getenv\ndf['x'] = float(getenv('TOT'))",
        ],
    ),
    "module attr": ("df", ["import math\nmath.other = other", "df['x'] = math.other.x.sum()"]),
    "module attr2": (
        "df",
        ["import math\nmath.other = other", "import math as m2\ndf['x'] = m2.other.x.sum()"],
    ),
    "builtins": ("df", ["import builtins\nbuiltins.oo = other", "df['x'] = oo.x.sum()"]),
    "eval alias": ("df", ["ev = eval", "df['x'] = ev('other').x.sum()"]),
    "df attrs": ("df", ["df.attrs['o'] = float(other.x.sum())", "df = df.assign(x=df.attrs['o'])"]),
    "fn attr": ("df", ["def h(): pass\nh.o = other", "df['x'] = h.o.x.sum()"]),
    "mutable default": (
        "df",
        ["def h(c=[]):\n    return c\nh().append(other)", "df['x'] = h()[0].x.sum()"],
    ),
    "global in fn": ("df", ["def h():\n    global n\n    n = other.x.sum()", "h()", "df['x'] = n"]),
    "nonlocal": (
        "df",
        [
            "def mk():\n    s = 0\n    def add(o):\n        nonlocal s\n        s = o.x.sum()\n    def get():\n        return s\n    return add, get\nadd, get = mk()",
            "add(other)",
            "df['x'] = get()",
        ],
    ),
    "closure list": (
        "df",
        [
            "def mk():\n    s = []\n    return s.append, lambda: s[0]\nadd, get = mk()",
            "add(other)",
            "df['x'] = get().x.sum()",
        ],
    ),
    "coroutine": (
        "df",
        [
            "async def co():\n    return other.x.sum()\nc = co()",
            "try:\n    c.send(None)\nexcept StopIteration as e:\n    df['x'] = e.value",
        ],
    ),
    "exception carries": (
        "df",
        [
            "def h():\n    raise ValueError(other)",
            "try:\n    h()\nexcept ValueError as e:\n    df['x'] = e.args[0].x.sum()",
        ],
    ),
    "comprehension walrus": ("df", ["[n := other.x.sum() for _ in [0]]", "df['x'] = n"]),
    "decorator": (
        "df",
        [
            "def deco(f):\n    t = other.x.sum()\n    return lambda d: d.assign(x=t)\n@deco\ndef fix(d): return d",
            "df = fix(df)",
        ],
    ),
    "context mgr": (
        "df",
        [
            "import contextlib\n@contextlib.contextmanager\ndef cm(d):\n    d['x'] = other.x.sum()\n    yield d",
            "with cm(df): pass",
        ],
    ),
    "inplace op user": (
        "df",
        [
            "class W:\n    def __init__(self, d): self.d = d\n    def __iadd__(self, o):\n        self.d['x'] = o.x.sum(); return self\nw = W(df)",
            "w += other",
        ],
    ),
    "rmul": (
        "df",
        [
            "class W:\n    def __mul__(self, d):\n        d['x'] = other.x.sum(); return 1\nw = W()",
            "kept = w * df",
        ],
    ),
    "polars inplace": (
        "pf",
        [
            "pf = pl.from_pandas(df)",
            "pf.replace_column(1, pl.Series('x', [float(other.x.sum())] * len(pf)))",
        ],
    ),
    "polars setitem": ("pf", ["pf = pl.from_pandas(df)", "pf[0, 'x'] = float(other.x.sum())"]),
    "polars extend": (
        "pf",
        ["pf = pl.from_pandas(df)", "pf.extend(pl.from_pandas(other[['id', 'x']]))"],
    ),
    "polars hstack": (
        "pf",
        [
            "pf = pl.from_pandas(df).drop('x')",
            "pf.hstack([pl.Series('x', [float(other.x.sum())] * len(pf))], in_place=True)",
        ],
    ),
    "polars vstack pos": (
        "pf",
        ["pf = pl.from_pandas(df)", "pf.vstack(pl.from_pandas(other[['id', 'x']]), in_place=True)"],
    ),
    "polars lazy": (
        "pf",
        [
            "lz = pl.from_pandas(df).lazy().with_columns(x=pl.lit(float(other.x.sum())))",
            "pf = lz.collect()",
        ],
    ),
    "polars udf": (
        "pf",
        [
            "pf = pl.from_pandas(df).with_columns(x=pl.col('x').map_elements(lambda v: float(other.x.sum()), return_dtype=pl.Float64))"
        ],
    ),
    "polars expr": (
        "pf",
        ["e = pl.lit(float(other.x.sum())).alias('x')", "pf = pl.from_pandas(df).with_columns(e)"],
    ),
    "arrow": (
        "t",
        [
            "import pyarrow as pa\nt = pa.Table.from_pandas(df)",
            "t = t.set_column(t.column_names.index('x'), 'x', pa.array([float(other.x.sum())] * len(t)))",
        ],
    ),
    "update": ("df", ["df.update(other[['x']])"]),
    "iat": ("df", ["df.iat[0, 1] = other.x.sum()"]),
    "columns attr": ("df", ["df.x = other.x.sum()"]),
    "copy module": ("df", ["b = copy.copy(other)", "df['x'] = b.x.sum()"]),
    "deepcopy box": (
        "df",
        ["b = {'k': [other]}", "c = copy.deepcopy(b)", "df['x'] = c['k'][0].x.sum()"],
    ),
    "weakref": ("df", ["import weakref\nw = weakref.ref(other)", "df['x'] = w().x.sum()"]),
    "del": ("df", ["n = other.x.sum()\ndel other", "df['x'] = n"]),
    "conditional": ("df", ["if other.x.sum() > 100:\n    df = df.assign(x=1.5)"]),
    "conditional2": ("df", ["flag = other.x.sum() > 100", "if flag:\n    df = df.assign(x=1.5)"]),
    "flag scalar": (
        "df",
        ["flag = bool(other.x.sum() > 100)", "k = 2 if flag else 3", "df['x'] = k"],
    ),
    "string fmt": ("df", ["s = f'{other.x.sum()}'", "df['x'] = float(s)"]),
    "random seed": (
        "df",
        ["np.random.seed(int(other.x.sum()))", "df['x'] = np.random.rand(len(df))"],
    ),
    "random seed2": (
        "df",
        ["import random\nrandom.seed(float(other.x.sum()))", "df['x'] = random.random()"],
    ),
    "rng": (
        "df",
        ["rng = np.random.default_rng(int(other.x.sum()))", "df['x'] = rng.random(len(df))"],
    ),
    "pd option": (
        "df",
        [
            "pd.set_option('display.precision', int(other.x.sum()) % 7)",
            "df['x'] = pd.get_option('display.precision')",
        ],
    ),
    "tempfile db": (
        "df",
        [
            "import sqlite3\ncon = sqlite3.connect(':memory:')\nother.to_sql('o', con)",
            "df = pd.read_sql('SELECT id, x FROM o', con)",
        ],
    ),
    "duckdb table": (
        "df",
        [
            "con = duckdb.connect()\ncon.register('o', other)",
            "df = con.sql('SELECT id, x FROM o').df()",
        ],
    ),
    "duckdb global": (
        "df",
        [
            "duckdb.sql('CREATE OR REPLACE TABLE o AS SELECT * FROM other')",
            "df = duckdb.sql('SELECT id, x FROM o').df()",
        ],
    ),
    "polars vstack": (
        "pf",
        ["pf = pl.from_pandas(df)", "pf.vstack(pl.from_pandas(other[['id', 'x']]), in_place=True)"],
    ),
    "udf": (
        "pf",
        [
            "pf = pl.from_pandas(df).with_columns(x=pl.Series([float(v) for v in df.x]).map_elements(lambda v: float(other.x.sum()), return_dtype=pl.Float64))"
        ],
    ),
    "apply list fn": (
        "df",
        ["def gn(d):\n    df['x'] = other.x.sum()\n    return d", "kept = df.x.apply([gn])"],
    ),
    "kw callback": (
        "df",
        ["def gn(d):\n    df['x'] = other.x.sum()\n    return d", "kept = sorted([1, 2], key=gn)"],
    ),
    "closure change": (
        "df",
        [
            "def mk(d):\n    def ch():\n        d['x'] = other.x.sum()\n    return ch\nch = mk(df)",
            "ch()",
        ],
    ),
    "method arg user obj": (
        "df",
        ["class V:\n    def go(self, d): d['x'] = other.x.sum()\nv = V()", "list(map(v.go, [df]))"],
    ),
    "filter": (
        "df",
        [
            "def gn(d):\n    d['x'] = other.x.sum()\n    return True",
            "kept = list(filter(gn, [df]))",
        ],
    ),
    "starmap": (
        "df",
        [
            "def gn(d, o):\n    d['x'] = o.x.sum()",
            "kept = list(itertools.starmap(gn, [(df, other)]))",
        ],
    ),
    "lazy map": ("df", ["def gn(d):\n    d['x'] = other.x.sum()", "m = map(gn, [df])", "list(m)"]),
    "lazy map2": (
        "df",
        ["def gn(d):\n    d['x'] = other.x.sum()", "m = map(gn, [df])", "for _q in m: pass"],
    ),
    "lazy genexp": ("df", ["m = (d.__setitem__('x', other.x.sum()) for d in [df])", "list(m)"]),
    "gen mutates": (
        "df",
        ["def gen(d):\n    yield 1\n    d['x'] = other.x.sum()\ng = gen(df)", "list(g)"],
    ),
    "unpack star": ("df", ["a, *b = [df, 1, 2]", "a['x'] = other.x.sum()"]),
    "dict alias": ("df", ["b = {'d': df}\nb['d']['x'] = other.x.sum()"]),
    "dict alias get": ("df", ["b = dict(d=df)", "b.get('d')['x'] = other.x.sum()"]),
    "dict loop": ("df", ["b = dict(d=df)", "for k, v in b.items():\n    v['x'] = other.x.sum()"]),
    "ternary alias": ("df", ["z = df if True else None\nz['x'] = other.x.sum()"]),
    "ternary alias del": ("df", ["z = df if True else None\nz['x'] = other.x.sum()\ndel z"]),
    "for del": ("df", ["for k in (df,):\n    k['x'] = other.x.sum()\ndel k"]),
    "overwritten alias": ("df", ["a = df\na['x'] = other.x.sum()\na = 1"]),
    "fn local alias": ("df", ["def h():\n    a = df\n    a['x'] = other.x.sum()\nh()"]),
    "fn local alias2": (
        "df",
        ["def h():\n    for a in [df]:\n        a['x'] = other.x.sum()", "h()"],
    ),
    "lambda default": ("df", ["h = lambda d=df: d.__setitem__('x', other.x.sum())", "h()"]),
    "default arg": ("df", ["def h(d=df):\n    d['x'] = other.x.sum()", "h()"]),
    "class body": ("df", ["class C:\n    df['x'] = other.x.sum()"]),
    "class var": ("df", ["class C:\n    d = df", "C.d['x'] = other.x.sum()"]),
    "try finally": ("df", ["try:\n    pass\nfinally:\n    df['x'] = other.x.sum()"]),
    "async def": (
        "df",
        [
            "import asyncio\nasync def co():\n    df['x'] = other.x.sum()\nloop = asyncio.new_event_loop()\nloop.run_until_complete(co())\nloop.close()"
        ],
    ),
    "async store": (
        "df",
        [
            "import asyncio\nasync def co(d):\n    d['x'] = other.x.sum()\nloop = asyncio.new_event_loop()",
            "loop.run_until_complete(co(df))",
        ],
    ),
    "lock ctx": (
        "df",
        [
            "class M:\n    def __enter__(self): df['x'] = other.x.sum()\n    def __exit__(self, *a): pass",
            "with M(): pass",
        ],
    ),
    "iter class": (
        "df",
        [
            "class I:\n    def __iter__(self):\n        df['x'] = other.x.sum()\n        return iter([])",
            "for z in I(): pass",
        ],
    ),
    "del hook": (
        "df",
        ["class D:\n    def __del__(self): df['x'] = other.x.sum()\nd = D()", "del d"],
    ),
    "hash hook": (
        "df",
        [
            "class H:\n    def __init__(self, d): self.d = d\n    def __len__(self):\n        self.d['x'] = other.x.sum(); return 1\nhh = H(df)",
            "len(hh)",
        ],
    ),
    "str hook": (
        "df",
        [
            "class S:\n    def __str__(self):\n        df['x'] = other.x.sum(); return ''\ns = S()",
            "f'{s}'",
        ],
    ),
    "property set": (
        "df",
        [
            "class P:\n    @property\n    def v(self): return 0\n    @v.setter\n    def v(self, k): df['x'] = k\np = P()",
            "p.v = other.x.sum()",
        ],
    ),
    "namedtuple": (
        "df",
        [
            "from collections import namedtuple\nT = namedtuple('T', 'd')\nt = T(df)",
            "t.d['x'] = other.x.sum()",
        ],
    ),
    "dataclass": (
        "df",
        [
            "from dataclasses import dataclass\n@dataclass\nclass T:\n    d: object\nt = T(df)",
            "t.d['x'] = other.x.sum()",
        ],
    ),
    "simplens": (
        "df",
        ["from types import SimpleNamespace as NS\nt = NS(d=df)", "t.d['x'] = other.x.sum()"],
    ),
    "setattr ns": (
        "df",
        [
            "from types import SimpleNamespace as NS\nt = NS()",
            "t.o = other",
            "df['x'] = t.o.x.sum()",
        ],
    ),
    "zip": ("df", ["for a, o in zip([df], [other]):\n    a['x'] = o.x.sum()"]),
    "groupby lazily": (
        "df",
        [
            "g = df.groupby('id')",
            "df = g.apply(lambda d: d.assign(x=other.x.sum())).reset_index(drop=True).assign(id=[1, 2])",
        ],
    ),
    "iloc obj": ("df", ["L = df.loc", "L[:, 'x'] = other.x.sum()"]),
    "iloc obj2": ("df", ["L = df.iloc", "L[:, 1] = int(other.x.sum())"]),
    "series view set": ("df", ["s = df.pop('x')", "s[:] = int(other.x.sum())", "df['x'] = s"]),
    "np.copyto": (
        "df",
        [
            "arr = df[['x']].to_numpy().copy()",
            "np.copyto(arr, other.x.sum(), casting='unsafe')",
            "df['x'] = arr[:, 0]",
        ],
    ),
    "np.put": ("df", ["arr = np.zeros(2)", "np.put(arr, [0, 1], other.x.sum())", "df['x'] = arr"]),
    "arr method fill": ("df", ["arr = np.zeros(2)", "arr.fill(other.x.sum())", "df['x'] = arr"]),
    "arr view chain": (
        "df",
        ["arr = np.zeros(4)\nv = arr.reshape(2, 2)[0]", "v += other.x.sum()", "df['x'] = arr[:2]"],
    ),
    "arr view del": (
        "df",
        ["arr = np.zeros(2)\nv = arr[:]", "v[:] = other.x.sum()\ndel v", "df['x'] = arr"],
    ),
    "arr ufunc at": (
        "df",
        ["arr = np.zeros(2)", "np.add.at(arr, [0, 1], other.x.sum())", "df['x'] = arr"],
    ),
    "ufunc alias": (
        "df",
        ["arr = np.zeros(2)\nadd = np.add", "add(other.x.to_numpy(), 0, arr)", "df['x'] = arr"],
    ),
    "nditer": (
        "df",
        [
            "arr = np.zeros(2)",
            "with np.nditer(arr, op_flags=['readwrite']) as it:\n    for v in it: v[...] = other.x.sum()",
            "df['x'] = arr",
        ],
    ),
    "shared iter": (
        "df",
        [
            "import itertools\na, b = itertools.tee(iter([float(other.x.sum())]))",
            "df['x'] = next(b)",
        ],
    ),
    "heapq": (
        "df",
        ["import heapq\nh = []", "heapq.heappush(h, float(other.x.sum()))", "df['x'] = h[0]"],
    ),
    "bisect": (
        "df",
        ["import bisect\nh = []", "bisect.insort(h, float(other.x.sum()))", "df['x'] = h[0]"],
    ),
    "struct pack_into": (
        "df",
        [
            "import struct\nb = bytearray(8)",
            "struct.pack_into('d', b, 0, float(other.x.sum()))",
            "df['x'] = struct.unpack('d', b)[0]",
        ],
    ),
    "queue": (
        "df",
        ["import queue\nq = queue.Queue()", "q.put(other)", "df['x'] = q.get().x.sum()"],
    ),
    "csv writer": (
        "df",
        [
            "import io, csv\nb = io.StringIO()",
            "csv.writer(b).writerow([other.x.sum()])",
            "df['x'] = float(b.getvalue())",
        ],
    ),
    "print file": (
        "df",
        [
            "import io\nb = io.StringIO()",
            "print(other.x.sum(), file=b)",
            "df['x'] = float(b.getvalue())",
        ],
    ),
    "redirect": (
        "df",
        [
            "import io, contextlib\nb = io.StringIO()",
            "with contextlib.redirect_stdout(b): print(other.x.sum())",
            "df['x'] = float(b.getvalue())",
        ],
    ),
    "setdefault": ("df", ["b = {}", "b.setdefault('k', other)", "df['x'] = b['k'].x.sum()"]),
    "dict |=": ("df", ["b = {}\nc = b", "b |= {'k': other}", "df['x'] = c['k'].x.sum()"]),
    "list +=": ("df", ["b = []\nc = b", "b += [other]", "df['x'] = c[0].x.sum()"]),
    "slice assign": ("df", ["b = [0]\nc = b", "b[:] = [other]", "df['x'] = c[0].x.sum()"]),
    "contextvar": (
        "df",
        [
            "import contextvars\ncv = contextvars.ContextVar('c')",
            "_t = cv.set(other)",
            "df['x'] = cv.get().x.sum()",
        ],
    ),
    "threading local": (
        "df",
        ["import threading\ntl = threading.local()", "tl.o = other", "df['x'] = tl.o.x.sum()"],
    ),
    "sklearnish": (
        "df",
        [
            "class Mod:\n    def fit(self, o):\n        self.m = o.x.sum(); return self\n    def predict(self, d): return d.assign(x=self.m)\nmod = Mod()",
            "mod.fit(other)",
            "df = mod.predict(df)",
        ],
    ),
    "from module fn": ("df", ["from operator import setitem", "setitem(df, 'x', other.x.sum())"]),
    "lib class fit": (
        "df",
        [
            "import statistics, collections\nc = collections.Counter()",
            "c.update({'k': int(other.x.sum())})",
            "df['x'] = c['k']",
        ],
    ),
    "regex sub": (
        "df",
        ["import re\nt = re.sub('a', lambda m: str(other.x.sum()), 'a')", "df['x'] = float(t)"],
    ),
    "ast names": ("df", ["s = 'other'", "df['x'] = globals()[s].x.sum()"]),
    "while": ("df", ["k = 0\nwhile k < other.x.sum():\n    k += 1", "df['x'] = k"]),
    "type alias": ("df", ["T = type('T', (), {'o': other})", "df['x'] = T.o.x.sum()"]),
    "metaclass": (
        "df",
        [
            "class Meta(type):\n    @property\n    def v(cls): return other.x.sum()\nclass T(metaclass=Meta): pass",
            "df['x'] = T.v",
        ],
    ),
    "subclass frame": (
        "df",
        [
            "class F(pd.DataFrame):\n    @property\n    def mixed(self): return self.assign(x=other.x.sum())\nf = F(df)",
            "df = pd.DataFrame(f.mixed)",
        ],
    ),
    "frame.__class__": (
        "df",
        [
            "class F(pd.DataFrame):\n    def fix(self): self['x'] = other.x.sum()\nf = F(df)",
            "f.fix()",
            "df = pd.DataFrame(f)",
        ],
    ),
}
"""By what is done: the frame that is stored, and the cells whose effect on it comes from
`other`."""
NUMBERS = itertools.count(1)
"""Numbers of cells."""
HARMLESS = {
    "a lambda that changes nothing": [
        "made = df.assign(n=lambda d: d.x * 2)",
        "kept = other.copy()",
    ],
    "a function that changes nothing": [
        "def double(d):\n    return d.x * 2",
        "made = df.assign(n=double)\nkept = other.copy()",
    ],
    "a seed": ["np.random.seed(0)\nkept = other.copy()", "made = df.assign(n=np.random.rand(2))"],
    "an option": ["pd.set_option('display.precision', 3)\nkept = other.copy()"],
    "a text": ["print('the other table')\nkept = df.query('x > 0')"],
    "a column of the same name": ["kept = df.rename(columns={'x': 'other'})"],
    "a statement of ours": ["t = 's0'\nkept = ws.sql(f'SELECT * FROM jammi.{t}').pandas()"],
    "random numbers that another cell drew": [
        "kept = np.random.rand(len(other))",
        "df = df.assign(x=1.0)",
    ],
    "an element of a dict": ["box = {'a': other, 'b': df}", "kept = box.get('a')", "a = df"],
    "another frame in the same list": ["row = [df, other]", "other['x'] = 1.0", "a = df"],
    "a model of another frame": [
        "from sklearn.linear_model import LinearRegression as Model\nmodel = Model()",
        "model.fit(other[['id']], other.x)",
        "n = df.x.sum()",
    ],
    "a helper that is called with both": [
        "def report(*frames):\n    for frame in frames:\n        print(len(frame), frame.x.mean())",
        "report(df, other)",
        "df = df.dropna()",
    ],
    "a helper with a default": [
        "def scale(frame, by=2.0):\n    frame = frame.dropna()\n    return frame.assign(x=frame.x * by)",
        "kept = other.pipe(scale)\nkept = scale(other, by=3.0)",
        "df = df.pipe(scale)",
    ],
    "a loop over names of columns": [
        "for column in ['id', 'x']:\n    print(column, other[column].mean())",
        "for column in ['id', 'x']:\n    df[column + '_z'] = df[column] - df[column].mean()",
    ],
    "two sets of values": ["common = set(df.id) & set(other.id)", "df = df.dropna()"],
    "two statements of one cell": [
        "mine = df.groupby('id').x.sum()\nothers = other.groupby('id').x.sum()",
        "df = mine.reset_index()",
    ],
    "reads of one cell": [
        "df = ws.table('s0').pandas().dropna()\nkept = ws.table('s1').pandas().dropna()",
    ],
    "a name that is used again": [
        "part = other[other.x > 1]\nmade = part.groupby('id').size()",
        "part = df[df.x > -9]\nmade = part.groupby('id').size()",
        "df = made.reset_index(name='x')",
    ],
    "a chart of each": [
        "from sklearn.linear_model import LinearRegression as Model\nax = Model()\nax.fit(other[['id']], other.x)",
        "ax = Model()\nax.fit(df[['id']], df.x)",
        "df = df.assign(x=ax.predict(df[['id']]))",
    ],
    "a model that is fitted to both": [
        "from sklearn.linear_model import LinearRegression as Model\nmodel = Model()",
        "model.fit(other[['id']], other.x)",
        "model.fit(df[['id']], df.x)",
        "df = df.assign(n=1)",
    ],
    "a frame that is taken out of a frame": ["part = df[df.x > 0]\npart['x'] = other.x.sum()"],
}
"""Cells after which `df` does not rest on `other`."""


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Attacks that set variables of the process, as polars' Config does, do not change what later
    children of it display."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = start(tmp_path / "lab", {})
    loop = asyncio._get_running_loop()  # of a browser that a test before left in this thread
    asyncio._set_running_loop(None)
    yield lab
    asyncio._set_running_loop(loop)
    origins.follower = None
    origins.take_reads()
    lab.ws.close()


@dataclasses.dataclass
class KnownTable:
    """What `ws.table(name)` returns for a frame that was read before."""

    frame: Any
    origin: FrameOrigin | None

    def pandas(self) -> Any:
        """A copy of the frame, recorded as a read."""
        frame = self.frame.copy()
        origins.record_read(self.origin, frame)
        return frame


def run_cells(follower: FrameFollower, values: dict[str, Any], cells: list[str]) -> None:
    for code in cells:
        follower.begin(code, next(NUMBERS))
        exec(compile(code, "cell", "exec"), values)
        follower.end()


def run(
    lab: Lab, first: list[str], cells: list[str], **known: Any
) -> tuple[FrameFollower, dict[str, Any]]:
    """A notebook after the cells, and its variables. `known`: frames that its first cell reads."""
    values: dict[str, Any] = {"ws": lab.ws, "__name__": "__main__"}
    lab.ws.frames_from(lambda: values)
    follower = origins.follower = FrameFollower(values)
    origins.take_reads()
    run_cells(follower, values, [FIRST])
    with mock.patch.object(type(lab.ws), "table", lambda _, name: KnownTable(*known[name])):
        run_cells(follower, values, [f"{name} = ws.table({name!r}).pandas()" for name in known])
    run_cells(follower, values, [*first, *cells])
    follower.begin("get_ipython().run_cell_magic('jammi', '-m out', '…')", 99)
    return follower, values


def store(lab: Lab, cells: list[str], frame: str) -> str:
    """The name of a table that is stored from a frame after the cells."""
    follower, _ = run(lab, BASE, cells)
    name = f"out{len(lab.ws.status())}"
    services_of(lab.ws).materializer.materialize(
        name, Sql(f"SELECT id, x FROM {frame}", None, None), cache="use", progress=None, frames=True
    )
    follower.end()
    return name


@pytest.fixture
def known(lab: Lab) -> dict[str, tuple[Any, FrameOrigin | None]]:
    """The frames `df` and `other` as they are read, and their origins: reading them again for each
    of some hundred attacks costs most of their time."""
    frames = {name: lab.ws.table(t).pandas() for name, t in (("df", "s0"), ("other", "s1"))}
    return {name: (frame, origins.recorded(frame)) for name, frame in frames.items()}


def origin_after(lab: Lab, known: dict[str, Any], cells: list[str], frame: str) -> FrameOrigin:
    """What a table would rest on that is stored from a frame after the cells."""
    derive = ["df = df.assign(x=lambda d: d.x + 1)"]
    follower, values = run(lab, derive, cells, **known)
    origin = origins.origin(values[frame])
    follower.end()
    return origin or FrameOrigin()


def is_found(origin: FrameOrigin) -> bool:
    return any(each.input.name == "s1" for each in origin.inputs) or (
        "not followed" in str(origin.grounds)
    )


LISTS = {
    "first": ATTACKS,
    "second": {what: ("df", cells) for what, cells in SECOND.items()},
}


def missed_attacks(
    lab: Lab, known: dict[str, Any], folder: Path, attacks: dict[str, tuple[str, list[str]]]
) -> dict[str, FrameOrigin]:
    """The attacks after which the frame is not known to rest on `other`."""
    import pandas as pd

    missed = dict[str, FrameOrigin]()
    for number, (what, (frame, cells)) in enumerate(attacks.items()):
        place = folder / str(number)
        place.mkdir()
        with contextlib.chdir(place):
            origin = origin_after(lab, known, cells, frame)
        if not is_found(origin):
            missed[what] = origin
    for name in ("mix", "acc"):  # what the attacks leave in pandas
        if hasattr(pd.DataFrame, name):
            delattr(pd.DataFrame, name)
    return missed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", LISTS)
def test_what_changes_a_frame_out_of_sight_is_found(
    lab: Lab, known: dict[str, Any], tmp_path: Path, which: str
) -> None:
    assert missed_attacks(lab, known, tmp_path, LISTS[which]) == {}


FAULTS = {
    "a name takes nothing from what its statement loads": ("sources_of", set(), 2),
    "objects are not compared": ("find_changed", None, 20),
}
"""Parts of the analysis, what they return when they see nothing, and the share of the attacks that
is missed then, at least."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("which", LISTS)
def test_attacks_are_missed_by_an_analysis_that_sees_less(
    lab: Lab,
    known: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    fault: str,
) -> None:
    """The gate above fails without any of its parts."""
    part, nothing, share = FAULTS[fault]
    monkeypatch.setattr(CellFlow, part, lambda *_: nothing)
    some = dict(list(LISTS[which].items())[:: sized(8, 1)])
    assert len(missed_attacks(lab, known, tmp_path, some)) > len(some) / share


TOGETHER = {
    "the attack": lambda cells: [*BASE, "\n".join(cells)],
    "all": lambda cells: ["\n".join([*BASE, *cells])],
    "the reads": lambda cells: ["\n".join(BASE), *cells],
}
"""Which cells of an attack are one."""
MISSED_BEFORE = (
    "containers: itemgetter",
    "functions: parameter returned",
    "libraries: logging by the module",
)
"""Attacks that each run makes."""


@soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", TOGETHER)
def test_an_attack_whose_statements_stand_in_one_cell_is_found(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    import pandas as pd

    missed = dict[str, FrameOrigin]()
    attacks = [each for listed in LISTS.values() for each in listed.items()]
    for number, (what, (frame, cells)) in enumerate(attacks):
        is_left_out = number % sized(12, 1) and what not in MISSED_BEFORE
        if is_left_out or what == "polars and arrow: arrow udf":  # registers once only
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        follower, values = run(lab, [], TOGETHER[which](cells))
        origin = origins.origin(values[frame]) or FrameOrigin()
        follower.end()
        if not is_found(origin):
            missed[what] = origin
    for name in ("mix", "acc"):
        if hasattr(pd.DataFrame, name):
            delattr(pd.DataFrame, name)
    assert missed == {}


IN_ONE_CELL = {
    "stored before it is replaced": (
        "_store('out', 'df')\ndf = pd.DataFrame({'id': [1], 'x': [0.0]})",
        True,
    ),
    "replaced before it is stored": (
        "df = pd.DataFrame({'id': [1], 'x': [0.0]})\n_store('out', 'df')",
        False,
    ),
    "replaced by the statement that stores it": ("df = _store('out', 'df')", True),
    "on the line on which it is replaced": ("_store('out', 'df'); df = None", True),
    "a cell that fails before it replaces the frame": (
        "_store('out', 'df')\n1 / 0\ndf = pd.DataFrame({'id': [1], 'x': [0.0]})",
        True,
    ),
}
"""Cells that store `df`, and whether the table depends on `s1`, from which `df` was made before."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", IN_ONE_CELL)
def test_a_frame_that_is_stored_in_the_middle_of_a_cell_is_followed_up_to_there(
    lab: Lab, what: str
) -> None:
    code, depends = IN_ONE_CELL[what]

    materializer = services_of(lab.ws).materializer

    def _store(name: str, frame: str) -> None:
        recipe = Sql(f"SELECT id, x FROM {frame}", None, None)
        materializer.materialize(name, recipe, cache="use", progress=None, frames=True)

    follower, values = run(lab, BASE, ["df = other.assign(x=lambda d: d.x + 1)"])
    follower.end()
    _store.__module__ = "__main__"
    values["_store"] = _store
    follower.begin(code, 100)
    with contextlib.suppress(ZeroDivisionError):
        exec(compile(code, "cell", "exec"), values)
    follower.end()
    lab.path("s1.csv").write_text("id,x\n1,500.5\n2,700.0\n")
    assert isinstance(lab.ws.staleness("out"), jl.Fresh) == (not depends)


def test_what_a_failed_cell_did_not_replace_keeps_its_tables(lab: Lab) -> None:
    follower, values = run(lab, BASE, ["df = other.assign(x=lambda d: d.x + 1)"])
    follower.end()
    code = "1 / 0\ndf = pd.DataFrame({'id': [1], 'x': [0.0]})"
    follower.begin(code, 100)
    with pytest.raises(ZeroDivisionError):
        exec(compile(code, "cell", "exec"), values)
    follower.end(is_whole=False)
    assert is_found(origins.origin(values["df"]) or FrameOrigin())


@soak
@pytest.mark.filterwarnings("ignore")
def test_tables_stored_after_an_attack_are_not_fresh(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    attacks = list(ATTACKS.items())[:: sized(20, 1)]
    stored = {what: store(lab, cells, frame) for what, (frame, cells) in attacks}
    lab.path("s1.csv").write_text("id,x\n1,500.5\n2,700.0\n")
    status = lab.ws.status()
    missed = {
        what: status[name].grounds
        for what, name in stored.items()
        if isinstance(status[name].verdict, jl.Fresh)
        and "is not followed" not in str(status[name].grounds)
    }
    assert missed == {}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_does_not_change_a_frame_is_no_cause(
    lab: Lab, known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    origin = origin_after(lab, known, HARMLESS[what], "df")
    assert [each.input.name for each in origin.inputs] == ["s0"], origin
