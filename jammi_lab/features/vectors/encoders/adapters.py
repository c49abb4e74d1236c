"""Adapters that turn user objects into encoders: an object of the protocol, a sentence-transformers
model, a function."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.features.vectors.encoders.base import Encoder, EncoderIdentity, check_encoder

_WIDTH_METHODS = ("get_embedding_dimension", "get_sentence_embedding_dimension")
"""The width accessor of sentence-transformers, newest name first."""
_SETTINGS = ("max_seq_length", "truncate_dim", "default_prompt_name", "prompts")
"""Attributes of a sentence-transformers model that change its output."""


def to_encoder(
    obj: Any, *, name: str | None = None, version: str | None = None, dimensions: int | None = None
) -> Encoder:
    """Adapt an object to the encoder protocol. Raises InvalidArgument when that is impossible, or
    when a function has no name or version.

    An object of the protocol is returned unchanged. A sentence-transformers model is versioned by
    its weights; its module classes and settings are part of its identity. A function takes its name
    and version from the arguments or from attributes of these names. Arguments take precedence over
    attributes.
    """
    encode = getattr(obj, "encode", None)
    if callable(encode) and (width := _declared_width(obj)) is not None:
        return _sentence_transformer(obj, width, name, version)
    if callable(encode) and all(hasattr(obj, n) for n in ("name", "version", "dimensions")):
        is_plain = not isinstance(obj.version, int) or isinstance(obj.version, bool)
        if is_plain and name is None and version is None and dimensions is None:
            return check_encoder(obj)
        declared: EncoderIdentity | None = getattr(obj, "identity", None)
        return _wrap(
            encode,
            obj,
            name,
            version,
            dimensions,
            declared if isinstance(declared, EncoderIdentity) else None,
        )
    if callable(encode) or callable(obj):
        return _wrap(encode if callable(encode) else obj, obj, name, version, dimensions, None)
    raise InvalidArgument(
        f"A value of type {type(obj).__name__} is not an encoder.",
        hint='Pass "minilm", "hashing", a registered name, an object with name, version, '
        "dimensions and encode(list of texts), or a function.",
    )


def _weights_hint(name: str) -> str:
    """The line that registers an encoder whose weights cannot be read."""
    return (
        f'Call ws.models.register({name!r}, encoder, weights="1") and pass model={name!r}; use '
        "another text whenever its vectors change."
    )


class FunctionEncoder:
    """A function with the members of an encoder. `identity` is computed on each access, because a
    model may be trained further."""

    def __init__(
        self, encode: Callable[[list[str]], Any], identity: Callable[[], EncoderIdentity]
    ) -> None:
        self._encode, self._identity = encode, identity
        first = identity()
        self.name, self.version, self.dimensions = first.name, first.version, first.dimensions

    @property
    def identity(self) -> EncoderIdentity:
        """The identity at this moment."""
        return self._identity()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, version {self.version!r}, {self.dimensions} "
            "dimensions)"
        )

    def encode(self, texts: list[str], /) -> Any:
        """Call the function."""
        return self._encode(texts)


def _wrap(
    encode: Callable[[list[str]], Any],
    obj: Any,
    name: str | None,
    version: str | None,
    dimensions: int | None,
    declared: EncoderIdentity | None,
) -> Encoder:
    final_name = name or getattr(obj, "name", None)
    final_version = version or getattr(obj, "version", None)
    if isinstance(final_version, int) and not isinstance(final_version, bool):
        final_version = str(final_version)
    if not isinstance(final_name, str) or not isinstance(final_version, str):
        has_name = isinstance(final_name, str)
        missing = "weights that can be read" if has_name else "name"
        raise InvalidArgument(
            f"This encoder ({type(obj).__name__}) has no {missing}.",
            hint=_weights_hint(str(final_name) if has_name else "name"),
        )
    width = dimensions or getattr(obj, "dimensions", None) or _probe_width(encode, final_name)
    fixed_identity = EncoderIdentity(name=final_name, version=final_version, dimensions=width)

    def identity() -> EncoderIdentity:
        if declared is None:
            return fixed_identity
        fields = {
            **obj.identity.to_dict(),
            "name": final_name,
            "version": final_version,
            "dimensions": width,
        }
        return EncoderIdentity(**fields)

    return check_encoder(FunctionEncoder(encode, identity))


def _probe_width(encode: Callable[[list[str]], Any], name: str) -> int:
    """The width of the output for one text."""
    try:
        output = np.asarray(encode(["width"]))
    except Exception as error:
        raise SchemaMismatch(
            f"The model {name!r} failed on its first text: {type(error).__name__}.", column="vector"
        ) from error
    if output.ndim != 2 or output.shape[0] != 1 or not output.shape[1]:
        raise SchemaMismatch(
            f"The model {name!r} returned an array of shape {output.shape} for one text.",
            column="vector",
            expected="(1, width)",
            actual=str(output.shape),
        )
    return int(output.shape[1])


def _declared_width(obj: Any) -> int | None:
    for method in _WIDTH_METHODS:
        accessor = getattr(obj, method, None)
        if callable(accessor):
            width = accessor()
            return width if isinstance(width, int) else None
    return None


def _sentence_transformer(obj: Any, width: int, name: str | None, version: str | None) -> Encoder:
    weights = _Weights(obj)
    first_digest = weights.digest()
    if version is None and first_digest is None:
        raise InvalidArgument(
            f"This model ({type(obj).__name__}, no state_dict) has no weights that can be read.",
            hint=_weights_hint(name or "name"),
        )
    final_name = name or _model_name(obj)
    final_version = version or str(first_digest)[:12]
    tokenizer = _tokenizer_digest(obj)

    def identity() -> EncoderIdentity:
        settings = {n: value for n in _SETTINGS if (value := getattr(obj, n, None)) is not None}
        return EncoderIdentity(
            name=final_name,
            version=final_version,
            dimensions=width,
            weights=weights.digest(),
            tokenizer=tokenizer,
            revision="sentence-transformers",
            max_tokens=settings.pop("max_seq_length", None),
            precision=str(getattr(obj, "dtype", "float32")).removeprefix("torch."),
            settings={
                "modules": _module_settings(obj),
                **{n: _to_canonical(v) for n, v in settings.items()},
            },
        )

    def encode(texts: list[str]) -> Any:
        return obj.encode(texts, convert_to_numpy=True, show_progress_bar=False)

    return check_encoder(FunctionEncoder(encode, identity))


def _model_name(obj: Any) -> str:
    card = getattr(obj, "model_card_data", None)
    for candidate in (
        getattr(card, "model_name", None),
        getattr(card, "base_model", None),
        getattr(obj, "name", None),
    ):
        if isinstance(candidate, str) and candidate:
            return candidate.replace("::", ":")
    return "sentence-transformers"


class _Weights:
    """The weights of a model. They are digested again only after a write; torch counts the writes
    to each tensor."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj
        self._last_digest: tuple[list[Any], Mapping[str, Any], str] | None = None

    def digest(self) -> str | None:
        """SHA-256 over names, types and values of all tensors; None when there are none."""
        state = getattr(self._obj, "state_dict", None)
        tensors: Mapping[str, Any] = state() if callable(state) else {}
        if not tensors:
            return None
        versions = _tensor_versions(tensors)
        if self._last_digest is None or versions is None or self._last_digest[0] != versions:
            # the tensors are kept alive, so that their addresses stay unique
            self._last_digest = versions or [], tensors, _tensors_digest(tensors)
        return self._last_digest[2]


def _tensor_versions(tensors: Mapping[str, Any]) -> list[Any] | None:
    """Address and write count of each tensor; None for tensors without a write count."""
    try:
        return [
            (name, tensor.data_ptr(), tensor._version, str(tensor.dtype), tuple(tensor.shape))
            for name, tensor in tensors.items()
        ]
    except (AttributeError, RuntimeError, TypeError):
        return None


def _tensors_digest(tensors: Mapping[str, Any]) -> str:
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        array = _to_numpy(tensors[name])
        hasher.update(f"{name} {getattr(tensors[name], 'dtype', '')} {array.shape}\n".encode())
        hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def _to_numpy(tensor: Any) -> Any:
    for step in ("detach", "cpu"):
        if hasattr(tensor, step):
            tensor = getattr(tensor, step)()
    try:
        return np.asarray(tensor)
    except TypeError:
        # numpy has no bfloat16; float32 represents all its values
        return np.asarray(tensor.float())


def _tokenizer_digest(obj: Any) -> str | None:
    backend = getattr(getattr(obj, "tokenizer", None), "backend_tokenizer", None)
    return None if backend is None else hashlib.sha256(backend.to_str().encode()).hexdigest()


def _module_settings(obj: Any) -> list[Any]:
    """Class and plain settings of each module in order. Pooling and normalisation are modules
    without weights."""
    if not isinstance(obj, Iterable):
        return []
    settings = []
    for module in obj:
        config_of = getattr(module, "get_config_dict", None)
        settings.append(
            [type(module).__name__, _to_canonical(config_of() if callable(config_of) else {})]
        )
    return settings


def _to_canonical(value: Any) -> Any:
    """The value if it has a canonical JSON form, else its repr."""
    try:
        digest_of(value)
    except TypeError:
        return (
            {str(k): _to_canonical(v) for k, v in value.items()}
            if isinstance(value, Mapping)
            else repr(value)
        )
    return value
