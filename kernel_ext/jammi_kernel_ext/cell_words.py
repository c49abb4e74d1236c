"""Names of functions, methods, attributes and magics that have a meaning for whoever follows the
cells of a notebook."""

import re

OPAQUE_NAMES = frozenset(
    "exec eval compile globals locals vars setattr delattr __import__ threading Thread Timer "
    "multiprocessing ThreadPoolExecutor ProcessPoolExecutor ThreadPool joblib _thread "
    "__main__ mock patch monkeypatch".split()
)
OPAQUE_ATTRIBUTES = frozenset(
    "user_ns user_global_ns run_cell run_code run_cell_async ex ev push safe_execfile __dict__ "
    "__globals__ __setattr__ __setstate__ create_task ensure_future run_in_executor to_thread "
    "import_module spawn_callback call_later call_soon Thread ThreadPoolExecutor ThreadPool "
    "_getframe currentframe f_globals f_locals modules get_objects get_referrers exec settrace "
    "setprofile addaudithook call_soon_threadsafe call_at timeit Timer runsource runctx "
    "add_done_callback addHandler meta_path path_hooks ast_transformers set_custom_exc".split()
)
OPAQUE_STORED = frozenset("stdout stderr displayhook breakpointhook excepthook".split())
"""Attributes that, when a cell sets them, make other code run or go elsewhere."""
OPAQUE_VALUES = frozenset(
    map(id, (exec, eval, compile, globals, locals, vars, setattr, delattr, __import__))
)
"""Functions that cannot be followed under another name either, by id; they are never freed."""
TEXT_METHODS = frozenset(
    "query eval sql execute executemany evaluate table view from_query sqldf".split()
)
"""Methods whose text names variables of the notebook: pandas, polars, DuckDB, numexpr."""
WRITES = re.compile(r"\b(create|insert|update|delete|attach|alter|copy|merge|set)\b", re.IGNORECASE)
SETTERS = frozenset(
    "seed set_state setstate set_option putenv set_printoptions signal seterrcall".split()
)
"""Functions that change the state of their module."""
WRITERS = ("to_", "write", "dump", "save")
"""The beginnings of methods that write into an argument."""
PASSING = frozenset(
    "zip enumerate reversed sorted iter next list tuple dict set map filter chain cycle islice "
    "getattr min max partial nullcontext".split()
)
"""Functions whose result is, or holds, what they were given."""
CODE_MAGICS = frozenset("time timeit capture prun".split())
STATE_MODULES = frozenset(
    "random numpy.random logging warnings decimal sys os calendar socket csv locale gc signal "
    "codecs linecache threading".split()
)
"""Modules whose functions read what others of them have set."""
FILE_HANDLES = frozenset(
    "open fdopen connect memmap SharedMemory TemporaryFile NamedTemporaryFile ZipFile "
    "HDFStore ExcelWriter Dataset create_engine ParquetWriter".split()
)
"""Functions whose result reads and writes a file."""
FILE_READERS = frozenset(
    "fromfile genfromtxt listdir glob iglob rglob iterdir scandir walk stat getsize exists "
    "is_file readlink run_path check_output run Popen call check_call getoutput".split()
)
READER_BEGINNINGS = ("read", "scan_", "load")
FILE_WRITERS = frozenset(
    "tofile symlink symlink_to link mkdir makedirs rename copyfile copy2 copytree move touch "
    "unlink remove rmtree sink_parquet sink_csv sink_ipc sink_ndjson run Popen call check_call "
    "check_output sql execute".split()
)
KEEPING_LIBRARIES = frozenset(
    "pandas polars pyarrow numpy narwhals sklearn scipy statsmodels matplotlib seaborn altair "
    "plotly IPython ipywidgets jammi_lab jammi_widgets jammi_kernel_ext duckdb sqlalchemy builtins "
    "math statistics re json string datetime time pathlib os posix posixpath genericpath "
    "itertools functools operator _operator collections _collections copy textwrap decimal "
    "fractions typing dataclasses enum hashlib base64 uuid html urllib inspect types abc "
    "contextlib io _io csv _csv pickle _pickle random warnings logging weakref contextvars sys "
    "asyncio _asyncio glob tempfile importlib platform tqdm".split()
)
"""Libraries whose functions leave their arguments as they are, but for those in `IN_PLACE`."""
DATA_LIBRARIES = frozenset("pandas polars pyarrow narwhals".split())
"""Libraries whose objects are changed only by methods named in `IN_PLACE`; so are arrays."""
VALUE_LIBRARIES = DATA_LIBRARIES | frozenset(
    "numpy builtins math statistics datetime decimal fractions pathlib re json string time os "
    "posix posixpath genericpath itertools uuid".split()
)
"""Libraries whose functions return frames, numbers, texts and containers of their arguments."""
OBSERVING_LIBRARIES = frozenset(
    "sklearn scipy statsmodels matplotlib seaborn altair plotly".split()
)
"""Libraries whose objects leave the frames as they are that their methods are given."""
READING_METHODS = frozenset("get keys values items copy index count".split())
"""Methods of Python's containers that change nothing."""
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
    "insort_left insort_right isetitem put_along_axis scatter setfield byteswap setflags "
    "_set_value ior iconcat iand ixor isub imul ipow ilshift irshift itruediv ifloordiv imod "
    "imatmul pack_into readinto nditer redirect_stdout redirect_stderr".split()
)
