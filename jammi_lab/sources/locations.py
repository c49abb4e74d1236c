"""Where files are: what was typed, what is stored, and what it leads to; and the places that are no source.

A stored location is a path or an fsspec URL in which `[`, `*` and `?` always glob. A file whose own name holds such a character is stored
escaped (`x[[]1].csv`), so that it can never come to mean another file once it is gone.
"""

import glob
import os
import re
from pathlib import Path
from urllib.parse import unquote

from jammi_lab.errors import InvalidArgument
from jammi_lab.names import is_text
from jammi_lab.sources import addresses
from jammi_lab.storage.files import Place
from jammi_lab.values.records import SourceRecord

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ESCAPED = re.compile(r"\[([*?[])\]")
_MAGIC = re.compile(r"[*?[]")
_SECRETIVE = re.compile(r"pass|pwd|token|secret|key|sig|auth|cred|sas$|session|code|jwt|bearer|policy|login|user|account|cookie|hash|otp|pin$", re.I)
"""Names of query parts that hold a credential."""
_DENSE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+/_=.~-]{20,}")
"""Values that look like one, whatever their name."""
_QUERY = re.compile(r"\?[A-Za-z_][\w.-]*=")
_NAMED_BY_KEY = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
OWN_FOLDERS = ("results", "quarantine", "checkpoints", "models", "writers")
"""Folders of a workspace that hold every tenant's rows, or its own state."""
_CATALOG = "catalog.sqlite3"
_OPENED_BY = ("jammi.toml", "workspace.id")
"""Files of a workspace's folder that say how it is opened. They hold no rows, and may be read."""


class Unreachable(OSError):
    """A store or server that cannot be asked; whether a file is there is not known. The text is one clause that may be shown."""


def scheme_of(location: str) -> str | None:
    """The scheme of a URL in lower case; None for a path. `file://` is a path."""
    match = _URL.match(location)
    scheme = match[1].lower() if match else None
    return None if scheme in ("file", "local") else scheme


def without_credentials(location: str) -> str:
    """A URL without user part and without what its query may hold of a credential; a path as it is."""
    scheme = scheme_of(location)
    if scheme is None or scheme == "memory":
        return location
    if addresses.kind_of(scheme) is not None:
        return addresses.taken_out(location)[0]
    if scheme in ("http", "https"):
        return split_web(location)[0]
    if scheme in _NAMED_BY_KEY:
        return split_store(location)[0]
    head, rest = location.split("://", 1)
    return f"{head}://{rest.split('?', 1)[0].rsplit('@', 1)[-1]}"


def split_web(location: str) -> tuple[str, dict[str, str]]:
    """An http address without its credentials, and these: user, password, and query (the parts of it that look like one)."""
    taken = {}
    head, rest = location.split("#", 1)[0].split("://", 1)
    host, mark, path = re.fullmatch(r"([^/?]*)([/?]?)(.*)", rest, re.S).groups()  # type: ignore[union-attr]  # it matches every text
    path = f"?{path}" if mark == "?" else path
    if "@" in host:
        user, host = host.rsplit("@", 1)
        name, colon, password = user.partition(":")
        taken = {"user": unquote(name), **({"password": unquote(password)} if colon else {})}
    path, _, query = path.partition("?")
    parts = [part for part in query.split("&") if part]
    withheld = [part for part in parts if _is_credential(part)]
    if withheld:
        taken["query"] = "&".join(withheld)
    said = "&".join(part for part in parts if part not in withheld)
    return f"{head}://{host}/{path}{'?' if said else ''}{said}", taken


def _is_credential(part: str) -> bool:
    name, sign, value = part.partition("=")
    return bool(_SECRETIVE.search(unquote(name))) or bool(_DENSE.fullmatch(unquote(value if sign else name)))


def split_store(location: str) -> tuple[str, dict[str, str]]:
    """The address of an object store without its credentials, and what its user part (key, secret) and query said.

    A `?` that is not followed by `name=` belongs to the key, or globs.
    """
    taken = {}
    head, rest = location.split("://", 1)
    if query := _QUERY.search(rest):
        for part in rest[query.start() + 1 :].split("&"):
            name, _, value = part.partition("=")
            taken[unquote(name)] = unquote(value)
        rest = rest[: query.start()]
    bucket, slash, key = rest.partition("/")
    if "@" in bucket and not (head.lower().startswith("abfs") and ":" not in bucket):  # else the container of an account, as Azure writes it
        user, bucket = bucket.rsplit("@", 1)
        name, colon, secret = user.partition(":")
        taken |= {"key": unquote(name), **({"secret": unquote(secret)} if colon else {})}
    return f"{head}://{bucket}{slash}{key}", taken


def escape(path: str) -> str:
    """The pattern that matches just this path, here and in DuckDB."""
    return _MAGIC.sub(lambda m: f"[{m[0]}]", path)


def literal_path(pattern: str) -> str | None:
    """The one path that a pattern stands for; None when it globs."""
    plain = _ESCAPED.sub(r"\1", pattern)
    return plain if escape(plain) == pattern else None


def shown(location: str) -> str:
    """A stored location as people see it."""
    return without_credentials(literal_path(location) or location)


def store_location(location: str | os.PathLike[str], folder: Path | None) -> str:
    """What to keep of a location as it was typed: relative to the workspace when it lies inside, else absolute; URLs without credentials.

    A relative path is relative to the current directory. InvalidArgument for an empty one, and for bytes that are no text.
    """
    typed = os.fspath(location)
    if not typed or "\0" in typed:
        raise InvalidArgument("A source needs a location that is not empty.")
    if not is_text(typed):
        raise InvalidArgument(
            f"The location {typed!r} holds bytes that are no UTF-8.", hint="Rename the file, or make a link to it with a plain name."
        )
    typed = _database_path(typed)
    if scheme_of(typed) is not None:
        return without_credentials(typed)
    typed = _local(typed)
    pattern = escape(os.path.abspath(typed)) if os.path.lexists(typed) or not _MAGIC.search(typed) else _absolute_pattern(typed)
    if folder is None:
        return pattern
    for root in {os.path.abspath(folder), os.path.realpath(folder)}:
        if pattern.startswith(escape(root) + os.sep):
            return pattern[len(escape(root)) + 1 :]
    return pattern


def full_location(stored: str, folder: Path | None) -> str:
    """The absolute pattern or URL that a stored location means; the inverse of `store_location`."""
    if scheme_of(stored) is not None:
        return stored
    return os.path.join(escape(os.getcwd() if folder is None else os.path.abspath(folder)), _local(stored))


def _database_path(typed: str) -> str:
    """The path in `sqlite:///data.db` (relative) and `sqlite:////tmp/data.db`; anything else as it is. InvalidArgument when there is none."""
    scheme = scheme_of(typed)
    if scheme not in ("sqlite", "duckdb"):
        return typed
    rest = typed.split("://", 1)[1]
    if not rest.startswith("/") or len(rest) < 2:
        raise InvalidArgument(f"There is no path in {typed!r}.", hint=f"Write {scheme}:///data.db, or {scheme}:////tmp/data.db for an absolute path.")
    return rest[1:]


def _local(typed: str) -> str:
    match = _URL.match(typed)
    return os.path.expanduser(typed[match.end() :] if match else typed)


def _absolute_pattern(typed: str) -> str:
    return os.path.normpath(os.path.join(escape(os.getcwd()), typed))


def base_of(pattern: str) -> str:
    """The folder, unescaped, that the matches of a glob lie under."""
    head = []
    for part in pattern.split("/")[:-1]:
        plain = literal_path(part)
        if plain is None:
            break
        head.append(plain)
    return "/".join(head)


def expand(pattern: str) -> list[str]:
    """The files that a local glob matches, sorted; hidden ones are not."""
    return sorted(path for path in glob.glob(pattern, recursive=True) if not path.endswith(os.sep))


def refuse_own(path: str, folder: Path | None) -> None:
    """InvalidArgument when a path to read from is the workspace's own."""
    if folder is not None and _is_own(path, folder):
        raise InvalidArgument(
            f"{os.path.basename(path)!r} belongs to the workspace itself and cannot be a source.",
            hint="Read result tables as jammi.<name>, and what the catalog knows from jammi_catalog.",
        )


def refuse_to_write(path: str, folder: Path | None) -> None:
    """InvalidArgument when a path to write to is the workspace's own."""
    if folder is not None and (_is_own(path, folder) or _inside(path, folder) in _OPENED_BY):
        raise InvalidArgument(
            f"{os.path.basename(path)!r} lies where the workspace keeps its own files, which nothing else may write.",
            hint="Choose a place outside of it.",
        )


def _is_own(path: str, folder: Path) -> bool:
    """Whether a path leads into the workspace's own folders or to its catalog, by whatever name or link."""
    inside = _inside(path, folder)
    return inside in OWN_FOLDERS or inside.startswith(_CATALOG) or _is_link_to_own(os.path.realpath(path), os.path.realpath(folder))


def _inside(path: str, folder: Path) -> str:
    """What of a folder a path leads into, by whatever link; `..` when it leads out of it."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(folder)).split(os.sep)[0]


def is_catalog(path: Path) -> bool:
    """Whether a path leads to the catalog of a workspace, and not to a copy of one: beside it lies what a workspace keeps."""
    real = Path(os.path.realpath(path))
    return real.name == _CATALOG and real.exists() and any((real.parent / own).is_dir() for own in OWN_FOLDERS)


def place_to_write(path: object, folder: Place) -> Path:
    """Where a file is to lie that somebody named: on this machine, and not where the workspace keeps its own. InvalidArgument."""
    typed = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not isinstance(typed, str) or not typed or "\0" in typed or scheme_of(typed) is not None:
        raise InvalidArgument(f"A file to write is named by a path on this machine, not by {path!r}.", hint='Write it like "lab-backup.sqlite3".')
    target = Path(_local(typed)).absolute()
    refuse_to_write(str(target), folder if isinstance(folder, Path) else None)
    return target


def refuse_own_location(stored: str, folder: Path | None) -> None:
    """The same for a location as it is stored, before anything there is opened: a path, or the folder that a glob looks into."""
    if scheme_of(stored) is None:
        pattern = full_location(stored, folder)
        literal = literal_path(pattern)
        refuse_own(base_of(pattern) if literal is None else literal, folder)


def _is_link_to_own(real: str, root: str) -> bool:
    """Whether a file is a hard link to one of ours; only a file with several names is compared."""
    try:
        found = os.stat(real)
        if found.st_nlink < 2 or not os.path.isfile(real) or found.st_dev != os.stat(root).st_dev:
            return False
    except OSError:
        return False
    with os.scandir(root) as entries:
        if any(e.name.startswith(_CATALOG) and e.inode() == found.st_ino for e in entries):
            return True
    for name in OWN_FOLDERS:
        for base, _, files in os.walk(os.path.join(root, name)):
            if any(os.lstat(os.path.join(base, file)).st_ino == found.st_ino for file in files):
                return True
    return False


class Located:
    """What a connector of one registered place says of itself."""

    record: SourceRecord

    @property
    def kind(self) -> str:
        """The kind that was registered."""
        return self.record.kind

    @property
    def location(self) -> str:
        """The path or URL as people write it."""
        return shown(self.record.location)
