"""Encoders out of what people bring: an object of the protocol, a sentence-transformers model, a function."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jammi_lab.canonical import digest_of
from jammi_lab.embedders.base import Encoder, EncoderIdentity, check_encoder
from jammi_lab.errors import InvalidArgument, SchemaMismatch

_WIDTH_METHODS = ("get_embedding_dimension", "get_sentence_embedding_dimension")
"""How sentence-transformers calls it, newest first."""
_SETTINGS = ("max_seq_length", "truncate_dim", "default_prompt_name", "prompts")
"""Attributes of a sentence-transformers model that change what comes out."""


def as_encoder(obj: Any, *, name: str | None = None, version: str | None = None, dimensions: int | None = None) -> Encoder:
    """The object as an encoder. InvalidArgument when it cannot be one, or when a function comes without name and version.

    An object of the protocol is returned as it is; of a sentence-transformers model the weights tell the version, and the class of its
    modules and its settings go into the identity; a function says its name and version here or in attributes of those names. `name`,
    `version` and `dimensions` that are given win over what the object says.
    """
    encode = getattr(obj, "encode", None)
    if callable(encode) and (width := _width_of(obj)) is not None:
        return _sentence_transformer(obj, width, name, version)
    if callable(encode) and all(hasattr(obj, n) for n in ("name", "version", "dimensions")):
        if name is None and version is None and dimensions is None:
            return check_encoder(obj)
        own: EncoderIdentity | None = getattr(obj, "identity", None)
        return _wrapped(encode, obj, name, version, dimensions, own if isinstance(own, EncoderIdentity) else None)
    if callable(encode) or callable(obj):
        return _wrapped(encode if callable(encode) else obj, obj, name, version, dimensions, None)
    raise InvalidArgument(
        f"A value of type {type(obj).__name__} is no encoder.",
        hint='Give "minilm", "hashing", a registered name, an object with name, version, dimensions and encode(list of texts), or a function.',
    )


class FunctionEncoder:
    """A function of a list of texts, with what an encoder says about itself; `identity` is asked each time, as a model may be trained on."""

    def __init__(self, encode: Callable[[list[str]], Any], identity: Callable[[], EncoderIdentity]) -> None:
        self._encode, self._identity = encode, identity
        first = identity()
        self.name, self.version, self.dimensions = first.name, first.version, first.dimensions

    @property
    def identity(self) -> EncoderIdentity:
        """What shapes the vectors as things are now."""
        return self._identity()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, version {self.version!r}, {self.dimensions} dimensions)"

    def encode(self, texts: list[str], /) -> Any:
        """What the function gives."""
        return self._encode(texts)


def _wrapped(
    encode: Callable[[list[str]], Any], obj: Any, name: str | None, version: str | None, dimensions: int | None, own: EncoderIdentity | None
) -> Encoder:
    named = name or getattr(obj, "name", None)
    versioned = version or getattr(obj, "version", None)
    if not isinstance(named, str) or not isinstance(versioned, str):
        missing = "name" if not isinstance(named, str) else "version"
        raise InvalidArgument(
            f"An encoder that is a function needs a {missing}.",
            hint='Give name="…" and version="…", and another version whenever its vectors change.',
        )
    width = dimensions or getattr(obj, "dimensions", None) or _probe(encode, named)
    called = EncoderIdentity(name=named, version=versioned, dimensions=width)

    def identity() -> EncoderIdentity:
        if own is None:
            return called
        plain = {**obj.identity.to_dict(), "name": named, "version": versioned, "dimensions": width}
        return EncoderIdentity(**plain)

    return check_encoder(FunctionEncoder(encode, identity))


def _probe(encode: Callable[[list[str]], Any], name: str) -> int:
    """The width of what comes out for one text."""
    try:
        made = np.asarray(encode(["width"]))
    except Exception as error:
        raise SchemaMismatch(f"The model {name!r} failed on its first text: {type(error).__name__}.", column="vector") from error
    if made.ndim != 2 or made.shape[0] != 1 or not made.shape[1]:
        raise SchemaMismatch(
            f"The model {name!r} gave an array of shape {made.shape} for one text.", column="vector", expected="(1, width)", actual=str(made.shape)
        )
    return int(made.shape[1])


def _width_of(obj: Any) -> int | None:
    for method in _WIDTH_METHODS:
        ask = getattr(obj, method, None)
        if callable(ask):
            width = ask()
            return width if isinstance(width, int) else None
    return None


def _sentence_transformer(obj: Any, width: int, name: str | None, version: str | None) -> Encoder:
    weights = _Weights(obj)
    first = weights.digest()
    if version is None and first is None:
        raise InvalidArgument(
            f"The model shows no weights (a {type(obj).__name__} without state_dict), so it needs a version.",
            hint='Give version="…", and another one whenever its vectors change.',
        )
    named, versioned, tokenizer = name or _name_of(obj), version or str(first)[:12], _tokenizer_of(obj)

    def identity() -> EncoderIdentity:
        settings = {n: value for n in _SETTINGS if (value := getattr(obj, n, None)) is not None}
        return EncoderIdentity(
            name=named,
            version=versioned,
            dimensions=width,
            weights=weights.digest(),
            tokenizer=tokenizer,
            revision="sentence-transformers",
            max_tokens=settings.pop("max_seq_length", None),
            precision=str(getattr(obj, "dtype", "float32")).removeprefix("torch."),
            settings={"modules": _modules_of(obj), **{n: _plain(v) for n, v in settings.items()}},
        )

    def encode(texts: list[str]) -> Any:
        return obj.encode(texts, convert_to_numpy=True, show_progress_bar=False)

    return check_encoder(FunctionEncoder(encode, identity))


def _name_of(obj: Any) -> str:
    card = getattr(obj, "model_card_data", None)
    for named in (getattr(card, "model_name", None), getattr(card, "base_model", None), getattr(obj, "name", None)):
        if isinstance(named, str) and named:
            return named.replace("::", ":")
    return "sentence-transformers"


class _Weights:
    """The weights of a model, digested again when they were written to since: torch counts the writes to each tensor."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj
        self._seen: tuple[list[Any], Mapping[str, Any], str] | None = None

    def digest(self) -> str | None:
        """SHA-256 over names, types and values of all tensors; None when there are none to see."""
        state = getattr(self._obj, "state_dict", None)
        tensors: Mapping[str, Any] = state() if callable(state) else {}
        if not tensors:
            return None
        stamp = _stamp(tensors)
        if self._seen is None or stamp is None or self._seen[0] != stamp:
            self._seen = (stamp or [], tensors, _digest(tensors))  # the tensors are kept, so that no other ones get their place in memory
        return self._seen[2]


def _stamp(tensors: Mapping[str, Any]) -> list[Any] | None:
    """Where each tensor lies, and how often it was written to; None for what does not tell."""
    try:
        return [(name, tensor.data_ptr(), tensor._version, str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()]
    except (AttributeError, RuntimeError, TypeError):
        return None


def _digest(tensors: Mapping[str, Any]) -> str:
    running = hashlib.sha256()
    for name in sorted(tensors):
        array = _array_of(tensors[name])
        running.update(f"{name} {getattr(tensors[name], 'dtype', '')} {array.shape}\n".encode())
        running.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return running.hexdigest()


def _array_of(tensor: Any) -> Any:
    for step in ("detach", "cpu"):
        if hasattr(tensor, step):
            tensor = getattr(tensor, step)()
    try:
        return np.asarray(tensor)
    except TypeError:
        # numpy has no bfloat16; float32 holds each of its values
        return np.asarray(tensor.float())


def _tokenizer_of(obj: Any) -> str | None:
    backend = getattr(getattr(obj, "tokenizer", None), "backend_tokenizer", None)
    return None if backend is None else hashlib.sha256(backend.to_str().encode()).hexdigest()


def _modules_of(obj: Any) -> list[Any]:
    """Class and plain settings of each module in order: pooling and normalising are modules without weights."""
    if not isinstance(obj, Iterable):
        return []
    told = []
    for module in obj:
        ask = getattr(module, "get_config_dict", None)
        told.append([type(module).__name__, _plain(ask() if callable(ask) else {})])
    return told


def _plain(value: Any) -> Any:
    """The value when it has a canonical form, else its text."""
    try:
        digest_of(value)
    except TypeError:
        return {str(k): _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else repr(value)
    return value
