"""Names of functions, methods, attributes and magics that have a meaning for whoever follows the
cells of a notebook."""

import re

OPAQUE_NAMES = frozenset(
    "exec eval compile globals locals vars setattr delattr __import__ threading Thread Timer "
    "multiprocessing ThreadPoolExecutor ProcessPoolExecutor ThreadPool joblib _thread "
    "__main__".split()
)
OPAQUE_ATTRIBUTES = frozenset(
    "user_ns user_global_ns run_cell run_code run_cell_async ex ev push safe_execfile __dict__ "
    "__globals__ __setattr__ __setstate__ create_task ensure_future run_in_executor to_thread "
    "import_module spawn_callback call_later call_soon Thread ThreadPoolExecutor ThreadPool "
    "_getframe currentframe f_globals f_locals modules get_objects get_referrers exec".split()
)
OPAQUE_VALUES = frozenset(
    map(id, (exec, eval, compile, globals, locals, vars, setattr, delattr, __import__))
)
"""Functions that cannot be followed under another name either, by id; they are never freed."""
TEXT_METHODS = frozenset(
    "query eval sql execute executemany evaluate table view from_query sqldf".split()
)
"""Methods whose text names variables of the notebook: pandas, polars, DuckDB, numexpr."""
WRITES = re.compile(r"\b(create|insert|update|delete|attach|alter|copy|merge|set)\b", re.IGNORECASE)
SETTERS = frozenset("seed set_state setstate set_option putenv".split())
"""Functions that change the state of their module."""
WRITERS = ("to_", "write", "dump", "save")
"""The beginnings of methods that write into an argument."""
PASSING = frozenset(
    "zip enumerate reversed sorted iter next list tuple dict set map filter chain cycle islice "
    "getattr min max partial nullcontext".split()
)
"""Functions whose result is, or holds, what they were given."""
CODE_MAGICS = frozenset("time timeit capture prun".split())
HARMLESS_MAGICS = frozenset(
    "jammi jammi_py load_ext reload_ext unload_ext config matplotlib pip conda uv who whos pwd ls "
    "cd env history pinfo pinfo2 xmode precision html javascript markdown latex svg bash sh "
    "system sx alias_magic autosave lsmagic magic quickref".split()
)
IN_PLACE = frozenset(
    "insert update pop popitem extend append insert_column replace_column drop_in_place set fill "
    "put place setitem itemset sort partition resize copyto putmask fill_diagonal at clear "
    "setdefault remove reverse shuffle extend_constant set_at_idx __setitem__ __delitem__ "
    "__iadd__ setitem delitem iadd heappush heappop heapify heapreplace heappushpop insort "
    "insort_left insort_right pack_into readinto nditer redirect_stdout redirect_stderr".split()
)
