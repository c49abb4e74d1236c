"""The files of a registered model: where they are, what they are now, and the encoder that they make."""

import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from jammi_lab.canonical import digest_of
from jammi_lab.embedders.adapters import as_encoder
from jammi_lab.embedders.base import Encoder
from jammi_lab.errors import ExtensionMissing, InvalidArgument, JammiError, ModelNotFound, SchemaMismatch, SourceUnavailable
from jammi_lab.sources.locations import scheme_of
from jammi_lab.storage.digests import at_rest, sha256_file
from jammi_lab.values.models import ModelRecord


def stored(path: str | os.PathLike[str], folder: Path) -> str:
    """What the catalog keeps of a path: relative to the workspace when it lies inside, else absolute. InvalidArgument for a URL or for nothing."""
    typed = os.fspath(path)
    if not typed or scheme_of(typed) is not None:
        raise InvalidArgument(f"The files of a model are a folder or file on this machine, not {typed!r}.")
    found = os.path.abspath(os.path.expanduser(typed))
    if not os.path.exists(found):
        raise InvalidArgument(f"There are no model files at {typed!r}.", hint="Give a folder or file of model files, or an encoder object.")
    inside = os.path.relpath(found, folder)
    return found if inside.split(os.sep)[0] == os.pardir else inside


def digest_files(path: str | os.PathLike[str]) -> str:
    """SHA-256 over the model files at a path: of a file its bytes, of a folder the sorted relative paths with the SHA-256 of each.

    Hidden files are none of the model's. SourceUnavailable when something cannot be read or changes meanwhile, InvalidArgument for an empty folder.
    """
    root = Path(path)
    try:
        if root.is_file():
            return _digest(root)
        found = sorted((file.relative_to(root).as_posix(), _digest(file)) for file in _files(root, frozenset()))
    except OSError as error:
        raise SourceUnavailable(f"The model files at {str(path)!r} cannot be read: {error.strerror or error}.") from None
    if not found:
        raise InvalidArgument(f"The folder {str(path)!r} holds no model files.")
    return digest_of({"files": [list(pair) for pair in found]})


def load(record: ModelRecord, folder: Path) -> Encoder:
    """The encoder that the files of a registered model make: all-MiniLM-L6-v2 as `"minilm"` runs it, any other by sentence-transformers.

    ModelNotFound when the files are gone, SchemaMismatch when they are not those that were registered, ExtensionMissing, SourceUnavailable.
    """
    path = folder / (record.artifact or "")
    if not path.exists():
        raise ModelNotFound(
            f"The files of the model {record.name!r} are gone: {path}.", hint=f"Put them back, or call ws.models.register({record.name!r}, path)."
        )
    found = digest_files(path)
    if found != record.artifact_digest:
        raise SchemaMismatch(
            f"The files of the model {record.name!r}, version {record.version}, are not those that were registered.",
            expected=record.artifact_digest or "",
            actual=found,
            hint=f"Call ws.models.register({record.name!r}, path) to register them as a new version.",
        )
    from jammi_lab.embedders import minilm

    if _has(path, {"model.safetensors": minilm.WEIGHTS, "tokenizer.json": minilm.TOKENIZER}):
        return as_encoder(minilm.MiniLM(path), name=record.name)
    return as_encoder(_sentence_transformer(record, path), name=record.name)


def _sentence_transformer(record: ModelRecord, path: Path) -> object:
    try:
        library = importlib.import_module("sentence_transformers")
    except ImportError:
        raise ExtensionMissing(
            f"Running the files of the model {record.name!r} needs the package sentence-transformers.",
            hint="pip install sentence-transformers, or register an encoder object.",
        ) from None
    try:
        made: object = library.SentenceTransformer(str(path), local_files_only=True)
    except JammiError:
        raise
    except Exception as error:  # whatever a foreign library says about files that it cannot use
        raise SourceUnavailable(f"The files of the model {record.name!r} do not make an encoder: {type(error).__name__}.") from error
    return made


def _has(path: Path, known: Mapping[str, str]) -> bool:
    return all((path / name).is_file() and sha256_file(path / name) == digest for name, digest in known.items())


def _digest(file: Path) -> str:
    return at_rest(file, lambda: sha256_file(file))[1]


def _files(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """The regular files below a folder, by links too; a link to a folder that it lies in leads nowhere."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path), above | {real})
        elif entry.is_file():
            yield Path(entry.path)
