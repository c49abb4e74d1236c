"""The files of a registered model: their stored path, their digest, and loading the encoder."""

import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import (
    ExtensionMissing,
    InvalidArgument,
    JammiError,
    ModelNotFound,
    SchemaMismatch,
    SourceUnavailable,
)
from jammi_lab.core.model_records import ModelRecord
from jammi_lab.core.module_imports import import_modules
from jammi_lab.features.vectors.encoders.adapters import to_encoder
from jammi_lab.features.vectors.encoders.base import Encoder
from jammi_lab.sources.locations import check_no_credentials, scheme_of
from jammi_lab.storage.digests import read_stable, sha256_file


def stored_path(path: str | os.PathLike[str], folder: Path) -> str:
    """The path as the catalog stores it: relative to the workspace when it is inside, else
    absolute. InvalidArgument for a URL, an empty path or a missing file."""
    location = os.fspath(path)
    if not location or scheme_of(location) is not None:
        raise InvalidArgument(
            f"The files of a model must be a local folder or file, got {location!r}."
        )
    check_no_credentials(location)
    absolute_path = os.path.abspath(os.path.expanduser(location))
    if not os.path.exists(absolute_path):
        raise InvalidArgument(
            f"There are no model files at {location!r}.",
            hint="Pass a folder or file of model files, or an encoder object.",
        )
    relative_path = os.path.relpath(absolute_path, folder)
    if relative_path.split(os.sep)[0] == os.pardir:
        return absolute_path
    return relative_path


def digest_files(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of the model files at a path: of the bytes of a file, or of the sorted relative
    paths in a folder with the SHA-256 of each.

    Hidden files are ignored. SourceUnavailable when a file cannot be read or changes meanwhile,
    InvalidArgument for an empty folder.
    """
    root = Path(path)
    try:
        if root.is_file():
            return _digest(root)
        digests = sorted(
            (file.relative_to(root).as_posix(), _digest(file)) for file in _files(root, frozenset())
        )
    except OSError as error:
        raise SourceUnavailable(
            f"The model files at {str(path)!r} cannot be read: {error.strerror or error}."
        ) from None
    if not digests:
        raise InvalidArgument(f"The folder {str(path)!r} contains no model files.")
    return digest_of({"files": [list(pair) for pair in digests]})


def load_encoder(record: ModelRecord, folder: Path) -> Encoder:
    """Load the encoder from the files of a registered model. The built-in code runs
    all-MiniLM-L6-v2, sentence-transformers any other model.

    ModelNotFound when the files are missing, SchemaMismatch when they differ from those
    registered, ExtensionMissing, SourceUnavailable.
    """
    path = folder / (record.artifact or "")
    if not path.exists():
        raise ModelNotFound(
            f"The files of the model {record.name!r} are missing: {path}.",
            hint=f"Restore them, or call ws.models.register({record.name!r}, path).",
        )
    digest = digest_files(path)
    if digest != record.artifact_digest:
        raise SchemaMismatch(
            f"The files of the model {record.name!r}, version {record.version}, differ from the "
            "registered ones.",
            expected=record.artifact_digest or "",
            actual=digest,
            hint=f"Call ws.models.register({record.name!r}, path) to register them as a new "
            "version.",
        )
    from jammi_lab.features.vectors.encoders import minilm

    if _has_files(
        path,
        {"model.safetensors": minilm.WEIGHTS_DIGEST, "tokenizer.json": minilm.TOKENIZER_DIGEST},
    ):
        return to_encoder(minilm.MiniLM(path), name=record.name)
    return to_encoder(_sentence_transformer(record, path), name=record.name)


def _sentence_transformer(record: ModelRecord, path: Path) -> object:
    try:
        with import_modules():
            library = importlib.import_module("sentence_transformers")
    except ImportError:
        raise ExtensionMissing(
            f"Running the files of the model {record.name!r} needs the package "
            "sentence-transformers.",
            hint="pip install sentence-transformers, or register an encoder object.",
        ) from None
    try:
        model: object = library.SentenceTransformer(str(path), local_files_only=True)
    except JammiError:
        raise
    except Exception as error:  # the library raises many types for files that it cannot use
        raise SourceUnavailable(
            f"No encoder can be loaded from the files of the model {record.name!r}: "
            f"{type(error).__name__}."
        ) from error
    return model


def _has_files(path: Path, digests: Mapping[str, str]) -> bool:
    return all(
        (path / name).is_file() and sha256_file(path / name, follow_links=True) == digest
        for name, digest in digests.items()
    )


def _digest(file: Path) -> str:
    return read_stable(file, lambda: sha256_file(file, follow_links=True))[1]


def _files(folder: Path, parents: frozenset[str]) -> Iterator[Path]:
    """The regular files below a folder. Links are followed, except to a folder that contains
    them."""
    real = os.path.realpath(folder)
    if real in parents:
        return
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path), parents | {real})
        elif entry.is_file():
            yield Path(entry.path)
