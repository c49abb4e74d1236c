"""Names of functions, methods, attributes and magics that have a meaning for whoever follows the
cells of a notebook."""

import functools

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
TEXT_METHODS = frozenset(
    "query eval sql execute executemany evaluate table view from_query sqldf".split()
)
"""Methods whose text names variables of the notebook: pandas, polars, DuckDB, numexpr."""
WRITERS = ("write", "dump", "save")
"""The beginnings of functions that write files."""
CODE_MAGICS = frozenset("time timeit capture prun".split())
STATE_MODULES = tuple(
    "random. numpy.random. logging. warnings. decimal. sys. os. calendar. socket. csv. locale. gc. "
    "signal. codecs. linecache. threading. duckdb. sqlite3. sqlalchemy.".split()
)
"""Modules, each with a dot, whose functions read what others of them have set."""
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
"""The beginnings of functions that read files."""
FILE_WRITERS = FILE_HANDLES | frozenset(
    "tofile symlink symlink_to link mkdir makedirs rename copyfile copy2 copytree move touch "
    "unlink remove rmtree sink_parquet sink_csv sink_ipc sink_ndjson run Popen call check_call "
    "check_output to_csv to_parquet to_pickle to_json to_excel to_feather to_hdf to_stata to_xml "
    "to_html to_orc to_latex to_markdown to_file".split()
)
"""Functions and methods that write a file, if they are given its name."""
VALUE_LIBRARIES = frozenset(
    "pandas polars pyarrow narwhals jammi_lab jammi_kernel_ext jammi_widgets IPython numpy "
    "sklearn scipy statsmodels matplotlib seaborn altair plotly "
    "builtins math statistics datetime decimal fractions pathlib re json string time os posix "
    "posixpath genericpath itertools uuid".split()
)
"""Libraries whose functions return frames, numbers, texts and containers of their arguments."""
HARMLESS_MAGICS = frozenset(
    "jammi jammi_py load_ext reload_ext unload_ext config matplotlib pip conda uv who whos pwd ls "
    "cd env history pinfo pinfo2 xmode precision html javascript markdown latex svg bash sh "
    "system sx alias_magic autosave lsmagic magic quickref".split()
)
SETTERS = ("set_", "register", "seed", "setstate", "putenv", "signal", "seterrcall")
"""The beginnings of functions that change the state of their module."""
IN_PLACE = frozenset(
    "insert update pop popitem extend append add discard appendleft insert_column "
    "replace_column drop_in_place set fill put place setitem itemset sort partition resize "
    "copyto putmask fill_diagonal at clear "
    "difference_update intersection_update symmetric_difference_update "
    "setdefault remove reverse shuffle extend_constant set_at_idx __setitem__ __delitem__ "
    "__iadd__ setitem delitem iadd heappush heappop heapify heapreplace heappushpop insort "
    "insort_left insort_right isetitem put_along_axis scatter setfield byteswap setflags "
    "_set_value ior iconcat iand ixor isub imul ipow ilshift irshift itruediv ifloordiv imod "
    "imatmul pack_into readinto nditer redirect_stdout redirect_stderr".split()
)
"""Functions and methods that change their object, or what they are given."""
OUTPUT_PARAMETERS = frozenset("inplace in_place out file stream fileobj".split())
"""Parameters of functions that change what they are given, or their object."""


@functools.lru_cache(maxsize=4096)
def changes_in_place(word: str) -> bool:
    """Whether a function or a keyword argument of this name changes something in place."""
    return word in IN_PLACE or word in OUTPUT_PARAMETERS or word.startswith("overwrite_")
