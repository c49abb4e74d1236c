"""Locations of sources: parsing, storing and resolving paths, URLs and globs; protection of the
workspace's own files.

In a stored location, a path or an fsspec URL, `[`, `*` and `?` are always wildcards. A file name
with such a character is stored escaped (`x[[]1].csv`), so that it never matches another file after
the file is deleted.
"""

import contextlib
import fnmatch
import functools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jammi_lab.core import redaction
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import is_text
from jammi_lab.sources import database_urls
from jammi_lab.storage.files import StoragePath

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ESCAPED = re.compile(r"\[([*?[])\]")
_MAGIC = re.compile(r"[*?[]")
_CREDENTIAL_NAME = re.compile(
    r"pass|pwd|token|secret|key|sig|auth|cred|sas$|session|code|jwt|bearer|policy|login|user|"
    r"account|cookie|hash|otp|pin$",
    re.I,
)
"""Names of query parameters that may contain a credential."""
_CREDENTIAL_VALUE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+/_=.~-]{20,}")
"""Values that look like a credential under any name."""
_QUERY = re.compile(r"\?[A-Za-z_][\w.-]*=")
_MAX_PATTERN = 4096
"""As long as a path of Linux. The time to translate a pattern is its square."""
_ABOVE = "../"
"""Begins a stored location that is outside the workspace's folder and in its project."""
STORES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""The object store by URL scheme."""
HTTP_SCHEMES = ("http", "https")
OWN_FOLDERS = ("results", "quarantine", "checkpoints", "models", "writers")
"""Folders of a workspace with rows of all tenants or with its internal state."""
_CATALOG = "catalog.sqlite3"
_OPENING_FILES = ("jammi.toml", "workspace.id")
"""Files in a workspace's folder that define how it is opened. They contain no rows and may be
read."""


class Unreachable(OSError):
    """A store or server did not respond, so it is unknown whether a file exists. The text is one
    clause without credentials."""


def scheme_of(location: str) -> str | None:
    """The scheme of a URL in lower case; None for a path and for `file://`."""
    match = _URL.match(location)
    scheme = match[1].lower() if match else None
    return None if scheme in ("file", "local") else scheme


def check_url(url: str) -> None:
    """Raise InvalidArgument for a text that no server can be asked for."""
    try:
        is_valid = is_text(url) and urlsplit(url).port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise InvalidArgument("The URL is invalid.", hint="Write https://host:8080/path.")


def without_credentials(location: str) -> str:
    """A URL without its user part and query parameters that may be credentials; a path as it is."""
    return split_location(location)[0]


def split_location(location: str) -> tuple[str, dict[str, str]]:
    """A location without its credentials, and the credentials by name; of the URL of an object
    store all parameters."""
    scheme = scheme_of(location)
    if scheme is None:
        return location, {}
    if database_urls.kind_of(scheme) is not None:
        return database_urls.strip_password(location)
    if scheme in HTTP_SCHEMES:
        return _split_http_url(location)
    if scheme in STORES:
        return _split_store_url(location)
    head, rest = location.split("://", 1)
    return f"{head}://{rest.split('?', 1)[0].rsplit('@', 1)[-1]}", {}


def _split_user(host: str, *names: str) -> tuple[str, dict[str, str]]:
    """The part of a URL before its path without the user part, and the values of that."""
    user, _, host = host.rpartition("@")
    if not user:
        return host, {}
    return host, dict(zip(names, map(unquote, user.split(":", 1)), strict=False))


def _split_http_url(location: str) -> tuple[str, dict[str, str]]:
    """An http URL without its credentials, and the credentials: user, password, and query (the
    parameters that look like one)."""
    head, rest = location.split("#", 1)[0].split("://", 1)
    host, mark, path = re.fullmatch(r"([^/?]*)([/?]?)(.*)", rest, re.S).groups()  # type: ignore[union-attr]  # it matches every text
    path = f"?{path}" if mark == "?" else path
    host, credentials = _split_user(host, "user", "password")
    path, _, query = path.partition("?")
    parts = [part for part in query.split("&") if part]
    credential_parts = [part for part in parts if _is_credential(part)]
    if credential_parts:
        credentials["query"] = "&".join(credential_parts)
    kept_query = "&".join(part for part in parts if part not in credential_parts)
    return f"{head}://{host}/{path}{'?' if kept_query else ''}{kept_query}", credentials


def _is_credential(part: str) -> bool:
    name, sign, value = part.partition("=")
    return bool(_CREDENTIAL_NAME.search(unquote(name))) or bool(
        _CREDENTIAL_VALUE.fullmatch(unquote(value if sign else name))
    )


def _split_store_url(location: str) -> tuple[str, dict[str, str]]:
    """The URL of an object store without its credentials, and the values of its user part (key,
    secret) and query.

    A `?` that is not followed by `name=` belongs to the object key or is a wildcard.
    """
    credentials = {}
    head, rest = location.split("://", 1)
    if query := _QUERY.search(rest):
        for part in rest[query.start() + 1 :].split("&"):
            name, _, value = part.partition("=")
            credentials[unquote(name)] = unquote(value)
        rest = rest[: query.start()]
    bucket, slash, key = rest.partition("/")
    # In Azure's notation the part before @ may be a container instead of a user.
    if not (head.lower().startswith("abfs") and ":" not in bucket):
        bucket, user = _split_user(bucket, "key", "secret")
        credentials |= user
    return f"{head}://{bucket}{slash}{key}", credentials


def escape(path: str) -> str:
    """The glob pattern that matches only this path, in Python and in DuckDB."""
    return _MAGIC.sub(lambda m: f"[{m[0]}]", path)


def literal_path(pattern: str) -> str | None:
    """The only path that a pattern can match; None if it has wildcards."""
    plain = _ESCAPED.sub(r"\1", pattern)
    return plain if escape(plain) == pattern else None


def display_location(location: str, folder: Path | None = None) -> str:
    """A stored location for display. One in the project is absolute when `folder`, that of the
    workspace, is given."""
    if f"{location}/".startswith(_ABOVE) and folder is not None:
        location = full_location(location, folder)
    return without_credentials(literal_path(location) or location)


def project_of(folder: Path) -> Path:
    """The folder of the project that a workspace belongs to: the nearest one above with `.git`,
    else the one above. The home folder and `/` are no projects: then it is the workspace's own."""
    own = Path(os.path.realpath(folder))
    home = Path(os.path.realpath(os.path.expanduser("~")))
    above = [each for each in own.parents if each.parent != each and not home.is_relative_to(each)]
    repositories = (each for each in above if (each / ".git").exists())
    return next(repositories, above[0] if own.parent in above else own)


def store_location(location: str | os.PathLike[str], folder: Path | None) -> str:
    """The stored form of a location as typed: relative to the workspace if it is in its project
    (`project_of`), so that a copied or moved project reads its own files; else absolute; URLs
    without credentials.

    A relative path is relative to the current directory. Raises InvalidArgument for an empty
    location and for bytes that are not UTF-8.
    """
    user_input = os.fspath(location)
    if not user_input or "\0" in user_input:
        raise InvalidArgument("The location of a source must not be empty.")
    if not is_text(user_input):
        raise InvalidArgument(
            f"The location {user_input!r} contains bytes that are not UTF-8.",
            hint="Rename the file, or create a link to it with a plain name.",
        )
    user_input = _database_path(user_input)
    if scheme_of(user_input) is not None:
        check_url(user_input)
        return without_credentials(user_input)
    user_input = _local_path(user_input)
    if os.path.lexists(user_input) or not _MAGIC.search(user_input):
        pattern = escape(os.path.abspath(user_input))
    else:
        pattern = os.path.normpath(os.path.join(escape(os.getcwd()), user_input))
    return pattern if folder is None else store_pattern(pattern, folder)


def store_pattern(pattern: str, folder: Path) -> str:
    """The stored form of an absolute pattern, as that of `store_location`."""
    for root in {os.path.abspath(folder), os.path.realpath(folder)}:
        if pattern.startswith(escape(root) + os.sep):
            return pattern[len(escape(root)) + 1 :]
    project = project_of(folder)
    parts = pattern.split(os.sep)
    for count in range(2, len(parts) + 1):
        above = literal_path(os.sep.join(parts[:count]))
        if above is None or not os.path.exists(above):
            break
        # Links above the project, and on macOS the case of letters, lead to the same folder.
        if os.path.exists(project) and os.path.samefile(above, project):
            up = os.path.relpath(project, os.path.realpath(folder))
            return os.path.join(up, *parts[count:])
    return pattern


def full_location(stored: str, folder: Path | None) -> str:
    """The absolute pattern or URL of a stored location; the inverse of `store_location`."""
    if scheme_of(stored) is not None:
        return stored
    if folder is not None and f"{stored}/".startswith(_ABOVE):
        return os.path.normpath(os.path.join(escape(os.path.realpath(folder)), stored))
    root = escape(os.getcwd() if folder is None else os.path.abspath(folder))
    return os.path.join(root, _without_scheme(stored))  # a file of the workspace may be named ~


def _database_path(user_input: str) -> str:
    """The path in `sqlite:///data.db` (relative) or `sqlite:////tmp/data.db`; other locations
    unchanged. Raises InvalidArgument for a URL without a path."""
    scheme = scheme_of(user_input)
    if scheme not in ("sqlite", "duckdb"):
        return user_input
    rest = user_input.split("://", 1)[1]
    if not rest.startswith("/") or len(rest) < 2:
        raise InvalidArgument(
            f"There is no path in {user_input!r}.",
            hint=f"Write {scheme}:///data.db, or {scheme}:////tmp/data.db for an absolute path.",
        )
    return rest[1:]


def _local_path(user_input: str) -> str:
    return os.path.expanduser(_without_scheme(user_input))


def _without_scheme(location: str) -> str:
    """The path of a `file://` URL; a path unchanged."""
    match = _URL.match(location)
    return location[match.end() :] if match else location


def base_of(pattern: str) -> str:
    """The unescaped folder that contains all matches of a glob."""
    head = []
    for part in pattern.split("/")[:-1]:
        plain = literal_path(part)
        if plain is None:
            break
        head.append(plain)
    return "/".join(head)


def expand(pattern: str) -> list[str]:
    """What matches an absolute local glob, sorted, each path once, without what is hidden. `**`
    follows no links to folders. Raises OSError for a folder that cannot be listed."""
    if len(pattern) > _MAX_PATTERN:
        return []
    parts = pattern.split("/")
    if parts[-1] == "**":
        parts.append("*")
    found, name = {""}, None
    for part in parts:
        name = literal_path(part)
        if name is not None:
            found = {f"{folder}{name}/" for folder in found}
        else:
            found = {
                path
                for folder in _distinct_folders(found)
                for path in _folder_entries(folder, part)
            }
    return sorted(path[:-1] for path in found if name is None or _is_there(path[:-1]))


def _is_there(path: str) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)
        return True
    return False


def _distinct_folders(folders: Iterable[str]) -> Iterable[str]:
    """The folders, by one way each: links may lead to the same one again, and in a circle."""
    found: dict[tuple[int, int], str] = {}
    for folder in sorted(folders, key=lambda folder: (os.path.islink(folder[:-1]), folder)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(folder)
            found.setdefault((status.st_dev, status.st_ino), folder)
    return found.values()


def _raise_unless_missing(error: OSError) -> None:
    """Of a folder that cannot be listed rows would be missing without a word."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _folder_entries(folder: str, part: str) -> Iterator[str]:
    if part != "**":
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in fnmatch.filter(os.listdir(folder), part):
                if part.startswith(".") or not name.startswith("."):
                    yield f"{folder}{name}/"
        return
    for base, inner, _ in os.walk(folder, onerror=_raise_unless_missing):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield os.path.join(base, "")


def check_no_credentials(path: str) -> None:
    """Raise InvalidArgument for a path to create that is an address with a password: it would
    become the name of a file or folder. The message does not repeat it."""
    if redaction.looks_like_address(path) and not os.path.lexists(path):
        raise InvalidArgument(
            "The path looks like an address with a password, which would become part of a name.",
            hint="Pass a local path. jl.open(path, catalog=…) takes the URL of a catalog, and "
            "ws.sources.add(name, url, secret=…) that of a source.",
        )


def check_readable_files(paths: Sequence[str], folder: Path | None) -> None:
    """`check_readable_path` for many files. Those that are no links are decided by their folders,
    each of which is resolved once."""
    if folder is None:
        return
    is_in_workspace = functools.cache(functools.partial(_is_within, root=os.path.realpath(folder)))
    for path in paths:
        is_plain = False
        with contextlib.suppress(OSError):
            is_plain = stat.S_ISREG(os.lstat(path).st_mode)
        if not is_plain or is_in_workspace(os.path.dirname(path)):
            check_readable_path(path, folder)


def _is_within(folder: str, root: str) -> bool:
    real = os.path.realpath(folder)
    return os.path.commonpath((real, root)) == root


def check_readable_path(path: str, folder: Path | None) -> None:
    """Raise InvalidArgument for a path to read that belongs to the workspace."""
    if folder is not None and _is_own(path, folder):
        raise InvalidArgument(
            f"{os.path.basename(path)!r} belongs to the workspace itself and cannot be a source.",
            hint="Read result tables as jammi.<name>, and the catalog's tables as "
            "jammi_catalog.<name>.",
        )


def check_writable_path(path: str, folder: Path | None) -> None:
    """Raise InvalidArgument for a path to write that belongs to the workspace."""
    if folder is not None and (
        _is_own(path, folder) or _first_component(path, folder) in _OPENING_FILES
    ):
        raise InvalidArgument(
            f"{os.path.basename(path)!r} is in the workspace's own files, which cannot be "
            "overwritten.",
            hint="Choose a path outside the workspace.",
        )


def _is_own(path: str, folder: Path) -> bool:
    """Whether a path resolves into the workspace's own folders or to its catalog, also through a
    symbolic link; who can make a hard link can read the file anyway."""
    component = _first_component(path, folder)
    return component in OWN_FOLDERS or component.startswith(_CATALOG)


def _first_component(path: str, folder: Path) -> str:
    """The first component of the resolved path relative to a folder; `..` if it is outside."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(folder)).split(os.sep)[0]


def is_catalog(path: Path) -> bool:
    """Whether a path resolves to the catalog of a workspace. A copy has no workspace folders beside
    it."""
    real = Path(os.path.realpath(path))
    return (
        real.name == _CATALOG
        and real.exists()
        and any((real.parent / own).is_dir() for own in OWN_FOLDERS)
    )


def resolve_output_path(path: object, folder: StoragePath | None = None) -> Path:
    """The absolute local path of a file to write. Raises InvalidArgument for a URL, for a name that
    is no text and for a path that belongs to the workspace."""
    user_input = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if (
        not isinstance(user_input, str)
        or not user_input
        or not is_text(user_input)
        or scheme_of(user_input) is not None
        or not Path(_local_path(user_input)).absolute().name
    ):
        raise InvalidArgument(
            f"The output must be a local path, got {path!r}.",
            hint='For example "lab-backup.sqlite3".',
        )
    check_no_credentials(user_input)
    target = Path(_local_path(user_input)).absolute()
    check_writable_path(str(target), folder if isinstance(folder, Path) else None)
    return target


def check_readable_location(stored: str, folder: Path | None) -> None:
    """`check_readable_path` for a stored location (a path or the folder of a glob), before anything
    is opened."""
    if scheme_of(stored) is None:
        pattern = full_location(stored, folder)
        literal = literal_path(pattern)
        check_readable_path(base_of(pattern) if literal is None else literal, folder)
