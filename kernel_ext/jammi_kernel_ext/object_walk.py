"""The objects that a name of the notebook reaches, and a signature of each: what a cell changed in
place is found by asking the objects before and after it.

An object is known by its id, memory that arrays share by its address. Nothing is kept alive, and no
code of the user runs.
"""

import collections
import datetime
import decimal
import fractions
import functools
import gc
import pathlib
import re
import sys
import types
import uuid
import weakref
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from jammi_kernel_ext.cell_code import CodeUse, is_own, uses_of

MAX_OBJECTS = 500
"""Objects that are visited from one name. What reaches more counts as changed by use."""
MAX_ELEMENTS = 1000
"""Elements of one container that are visited."""
MAX_COMPARED_BYTES = 32_768
"""The size of memory whose whole content is compared. Of more, a sample is."""
PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None)))
_IMMUTABLE = (
    *(int, float, complex, str, bytes),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal),
    *(fractions.Fraction, pathlib.PurePath, uuid.UUID, re.Pattern, range, slice),
    *(types.CodeType, types.EllipsisType, types.GenericAlias, types.GetSetDescriptorType),
    *(types.MemberDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType),
    types.ClassMethodDescriptorType,
)
_TRANSPARENT = frozenset(
    (
        *(object, type, dict, list, tuple, set, frozenset, BaseException, types.CellType),
        *(collections.deque, collections.OrderedDict, collections.defaultdict, functools.partial),
        *(types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType, property),
        *(staticmethod, classmethod, types.MappingProxyType, types.SimpleNamespace),
    )
)
"""Classes of C whose whole state the garbage collector sees."""
_CONTAINERS = (dict, list, tuple, set, frozenset)
_FRAMES = {
    "pandas": frozenset(("DataFrame", "Series")),
    "polars": frozenset(("DataFrame", "Series")),
    "pyarrow": frozenset(("Table", "RecordBatch", "ChunkedArray", "Array")),
}


class Walk:
    """What a value reaches."""

    def __init__(self, values: Mapping[str, Any], value: object) -> None:
        self._values = values
        self.signatures: dict[Any, Any] = {}
        """The signatures of the objects by id, and of shared memory by `memory` and address."""
        self.functions = set[Any]()
        """Functions of Python, by key."""
        self.hidden = set[Any]()
        """Objects whose state only they themselves know: connections, queues, iterators."""
        self.is_data = True
        """Whether it has nothing but frames, plain values, containers of these, and functions."""
        self.has_callbacks = False
        """Whether code runs when an object of it goes away."""
        self.uses = set[CodeUse]()
        """What the functions of the notebook use."""
        self.foreign = ""
        """A module of the user's own, whose code is not seen."""
        self.frames: list[Any] = []
        """The frames, while the walk is used."""
        self._pending = collections.deque([value])
        self._is_shallow = isinstance(value, dict | list | set) or _is_frame_type(type(value))
        self._root = id(value)
        while self._pending and len(self.signatures) < MAX_OBJECTS:
            self._visit(self._pending.popleft())
        if self._pending:
            self.hidden.add(id(value))
            self.is_data = False

    @property
    def calls_code(self) -> bool:
        """Whether code of the notebook may run when the value goes away."""
        return bool(self.uses or self.has_callbacks)

    @property
    def top(self) -> set[Any]:
        """What changes when an element of the value itself is assigned."""
        return {self._root} if self._is_shallow else set(self.signatures)

    def _visit(self, value: Any) -> None:
        kind, key = type(value), id(value)
        if key in self.signatures or kind in PLAIN:
            return
        if issubclass(kind, _IMMUTABLE) or is_own(kind) or value is self._values:
            return
        if _library_of(kind) in ("IPython", "ipykernel"):  # they reach everything
            return
        self.signatures[key] = None
        if issubclass(kind, types.ModuleType):
            self._note_module(vars(value).get("__name__"))
        elif kind is types.FunctionType:
            self._visit_function(value)
        elif kind is types.BuiltinFunctionType and value in _CODE_RUNNERS:
            self.foreign = value.__name__
        elif issubclass(kind, type):
            self._visit_class(value)
        elif is_array(value) or is_frame(value) or _is_frame_type(kind):
            if not is_installed(kind.__module__):
                self._pending.append(kind)
            self.signatures[key] = self._data_signature(value)
        elif issubclass(kind, weakref.ref):
            self._pending += (value(), value.__callback__)
        elif kind in weakref.ProxyTypes:
            self._pending.append(value.__reduce_ex__.__self__)
        else:
            self._visit_object(value, kind)

    def _note_module(self, module: Any) -> None:
        if isinstance(module, str) and module != "__main__" and not is_installed(module):
            self.foreign = self.foreign or f"the module {module}"

    def _visit_function(self, function: types.FunctionType) -> None:
        self.functions.add(id(function))
        if function.__globals__ is self._values:
            self.uses.add(uses_of(function.__code__))
        else:
            self._note_module(function.__module__)
        parts = (function.__closure__, function.__defaults__, function.__kwdefaults__)
        self.signatures[id(function)] = (
            id(function.__code__),
            self._follow((*parts, *function.__dict__.items())),
        )

    def _visit_class(self, kind: Any) -> None:
        if is_installed(module_of(kind)):
            return
        self.is_data = False
        self._note_module(kind.__module__)
        # Python 3.14 keeps annotations as a function, which runs when somebody asks for them
        members = [each for name, each in vars(kind).items() if name != "__annotate_func__"]
        parts = (*members, *kind.__bases__, type(kind))
        self.signatures[id(kind)] = self._follow(parts)

    def _visit_object(self, value: Any, kind: Any) -> None:
        if kind not in _CONTAINERS:
            self.is_data = False
        if kind is weakref.finalize:
            self._pending.append(value.peek())
        memory = None
        if _has_hidden_state(kind):
            memory = _buffer_of(value)
            if memory is None:
                self.hidden.add(id(value))
            else:
                self._add_memory(*memory)
        size = len(value) if kind in _CONTAINERS else 0
        if size > MAX_ELEMENTS:
            self.hidden.add(id(value))
        referents = gc.get_referents(value)[:MAX_ELEMENTS]
        if kind not in (list, dict, tuple) and (callbacks := _callbacks(value)):
            self.has_callbacks = True
            self._pending += callbacks
        self.signatures[id(value)] = size, memory, self._follow(referents)

    def _follow(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """Visit values later. Returns a signature of them: plain values, and ids of others."""
        found = []
        for value in values:
            if type(value) in PLAIN:
                found.append(value if type(value) is not str else hash(value))
            elif type(value) is tuple and len(value) < 5:
                found.append(self._follow(value))
            else:
                self._pending.append(value)
                found.append(id(value))
        return tuple(found)

    # -- frames and arrays

    def _data_signature(self, value: Any) -> Any:
        if is_array(value):
            self.is_data = False
            return self._array_signature(value)
        self.frames.append(value)
        manager = getattr(value, "_mgr", None)
        if manager is not None:
            return self._pandas_signature(value, manager)
        if _library_of(type(value)) != "polars":
            return self._arrow_signature(value)
        rows = value if type(value).__name__ == "DataFrame" else value.to_frame()
        try:
            arrow = rows.to_arrow(compat_level=sys.modules["polars"].CompatLevel.newest())
        except Exception:  # noqa: BLE001  columns of Python objects
            return self._follow(rows.to_numpy().ravel()[:MAX_ELEMENTS].tolist())
        return self._arrow_signature(arrow)

    def _pandas_signature(self, frame: Any, manager: Any) -> Any:
        others = [v for key, v in vars(frame).items() if key not in _CACHES and not _is_empty(v)]
        parts = [block.values for block in manager.blocks]
        axes = [(id(axis), axis.name) for axis in manager.axes]
        return axes, self._follow(others), [self._part_signature(part) for part in parts]

    def _part_signature(self, value: Any) -> Any:
        """The signature of what columns and indexes of pandas are made of."""
        if is_array(value):
            return self._array_signature(value)
        found = []
        for name in ("_pa_array", "_ndarray", "_data", "_mask", "_codes", "_left", "_right"):
            part = getattr(value, name, None)
            if part is None:
                continue
            found.append(self._array_signature(part) if is_array(part) else id(part))
        if found:
            return found, str(getattr(value, "name", ""))
        return self._follow(gc.get_referents(value)[:MAX_ELEMENTS])

    def _array_signature(self, array: Any) -> Any:
        root = array
        while is_array(root.base):
            root = root.base
        if root.base is not None and (memory := _buffer_of(root.base)) is not None:
            self._add_memory(*memory)
        if array.dtype.hasobject:
            return array.shape, self._follow(array.ravel()[:MAX_ELEMENTS].tolist())
        if type(array).__module__ != "numpy":
            self._follow(vars(array).values())
        content = _content(array)
        whole = content if root.size == array.size else _content(root)
        self._add_memory(root.__array_interface__["data"][0], whole)
        return array.shape, array.dtype, content

    def _arrow_signature(self, table: Any) -> Any:
        found = []
        columns = table.columns if hasattr(table, "columns") else [table]
        for column in columns:
            for chunk in getattr(column, "chunks", [column]):
                for buffer in chunk.buffers():
                    if buffer is not None:
                        content = _content_of_bytes(memoryview(buffer))
                        self._add_memory(buffer.address, content)
                        found.append(content)
        return str(getattr(table, "schema", "")), found

    def _add_memory(self, address: int, content: Any) -> None:
        self.signatures["memory", address] = content


_CODE_RUNNERS = (exec, eval, compile, globals, locals, vars, setattr, delattr, __import__)
_CACHES = frozenset(("_mgr", "_item_cache", "_cache", "_flags"))


def _is_empty(value: object) -> bool:
    return type(value) is dict and not value


def _content(array: Any) -> Any:
    if array.nbytes <= MAX_COMPARED_BYTES:
        return zlib.crc32(array.tobytes())
    step = max(1, array.size // 512)
    return array.size, zlib.crc32(array.flat[::step].tobytes())


def _content_of_bytes(view: memoryview) -> Any:
    if view.nbytes <= MAX_COMPARED_BYTES:
        return zlib.crc32(view)
    view = view.cast("B")
    step = view.nbytes // 64
    sample = b"".join(bytes(view[at : at + 64]) for at in range(0, view.nbytes, step))
    return view.nbytes, zlib.crc32(sample)


def _buffer_of(value: Any) -> tuple[int, Any] | None:
    """The address and content of an object that is a buffer; None for any other."""
    try:
        view = memoryview(value)
    except (TypeError, ValueError, BufferError):
        return None
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not view.nbytes or not view.c_contiguous:
        return 0, bytes(view[:64]) if view.c_contiguous else None
    address = numpy.frombuffer(view, "u1").__array_interface__["data"][0]
    return address, _content_of_bytes(view)


def _callbacks(value: Any) -> list[Any]:
    """What is called when an object goes away."""
    found = [getattr(each, "__callback__", None) for each in weakref.getweakrefs(value)]
    return [each for each in found if each is not None]


def _has_hidden_state(kind: Any) -> bool:
    """Whether objects of a class have fields of C that neither the garbage collector nor Python
    sees: more bytes than its slots account for."""
    while kind not in _TRANSPARENT:
        names = vars(kind)
        slots = sum(isinstance(each, types.MemberDescriptorType) for each in names.values())
        slots += ("__dict__" in names) + ("__weakref__" in names)
        if kind.__basicsize__ - kind.__base__.__basicsize__ > 8 * slots:
            return True
        kind = kind.__base__
    return False


def _library_of(kind: Any) -> str:
    return str(kind.__module__).partition(".")[0]


def is_array(value: object) -> bool:
    """Whether a value is an array of numpy."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and issubclass(type(value), numpy.ndarray)


def is_frame(value: object) -> bool:
    """Whether a value is a frame or column of a library, and holds no code."""
    kind = type(value)
    return kind.__name__ in _FRAMES.get(_library_of(kind), ())


def _is_frame_type(kind: Any) -> bool:
    return any(base.__name__ in _FRAMES.get(_library_of(base), ()) for base in kind.__mro__[:-1])


def is_of_library(value: Any) -> bool:
    """Whether a value is a module, class or function of a library, which holds no rows."""
    kind = type(value)
    if kind is types.BuiltinFunctionType:
        return value.__self__ is None or isinstance(value.__self__, types.ModuleType)
    if kind is types.FunctionType and value.__closure__ is not None:
        return False
    is_named = kind is types.FunctionType or issubclass(kind, type | types.ModuleType)
    return (is_named or kind.__name__ == "ufunc") and is_installed(module_of(value))


def module_of(value: Any) -> str:
    """The module of a function or class, of a module its name, of any other value the module of its
    class. No code of the user is run."""
    kind = type(value)
    if kind is types.ModuleType:
        return str(vars(value).get("__name__"))  # %run takes it away from `__main__`
    if kind is types.BuiltinFunctionType and value.__self__ is not None:
        return module_of(value.__self__)
    if kind is types.MethodType:
        return module_of(type(value.__self__))
    if kind is types.FunctionType or isinstance(value, type):
        module = value.__module__ if isinstance(value.__module__, str) else ""
        is_made = module == "types" and not hasattr(types, value.__name__)  # by `new_class`
        return "__main__" if is_made else module
    return str(kind.__module__)


@functools.lru_cache(maxsize=4096)
def is_installed(module: str) -> bool:
    """Whether a module belongs to Python, to an installed package or to jammi_lab."""
    from jammi_lab.steps.function_source import is_library

    return is_library(module)
