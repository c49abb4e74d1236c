"""Object stores (s3, gs, az): access options, fsspec filesystems and DuckDB secrets.

Files are listed and opened through fsspec. DuckDB reads s3 natively, which is faster, if everything
that it needs is known: with a secret that is valid for the source's prefix (`duckdb_secret`).
Otherwise it reads through `MountedFilesystem`, an fsspec filesystem with a unique protocol, so that
two sources of one store never use each other's credentials.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.sources.base import ScopedSecret
from jammi_lab.sources.locations import Unreachable
from jammi_lab.storage import object_store

if TYPE_CHECKING:
    import fsspec

CREDENTIALS = ("key", "secret", "token")
"""Options that are never stored."""
OPTIONS: dict[str, type] = {
    "key": str,
    "secret": str,
    "token": str,
    "endpoint_url": str,
    "region": str,
    "anon": bool,
}
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
_CLIENT_LIMITS = {
    "connect_timeout": CONNECT_SECONDS,
    "read_timeout": READ_SECONDS,
    "retries": {"total_max_attempts": 2},
}


@dataclass(frozen=True)
class StoreAccess:
    """Options and credentials of a store; the latter are not part of the repr."""

    store: str
    """s3, gs or az."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """endpoint_url, region and anon, if set."""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """key, secret and token, if set."""

    @property
    def identity(self) -> str:
        """A digest that is equal for equal access and reveals nothing."""
        return digest_of([self.store, dict(self.options), dict(self.credentials)])

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The fsspec filesystem, shared by equal access. Raises ExtensionMissing, which names the
        extra to install."""
        return open_filesystem(
            self.store,
            tuple(sorted(self.options.items())),
            tuple(sorted(self.credentials.items())),
            _environment(),
        )


def _environment() -> tuple[tuple[str, str], ...]:
    """The variables from which the libraries of the stores take what no option says."""
    prefixes = ("AWS_", "GOOGLE_", "GCSFS_", "STORAGE_EMULATOR_HOST", "AZURE_")
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(prefixes)))


def check_endpoint(options: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for an endpoint that is not an http URL or contains a credential."""
    endpoint = options.get("endpoint_url")
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(
            "The option 'endpoint_url' must be an http(s) URL.",
            hint="For example http://127.0.0.1:9000.",
        )
    if "@" in parts.netloc or parts.query:
        raise InvalidArgument(
            "The option 'endpoint_url' must not contain a credential.",
            hint="Use the options key and secret, or secret=.",
        )


@functools.lru_cache(maxsize=64)
def open_filesystem(
    store: str,
    options: tuple[tuple[str, Any], ...],
    credentials: tuple[tuple[str, str], ...],
    environment: tuple[tuple[str, str], ...],
) -> fsspec.AbstractFileSystem:
    """`environment` only distinguishes cached filesystems: the libraries read it themselves. For
    Azure, `key` is the name of the storage account, `secret` its key, `token` a shared access
    signature."""
    del environment
    settings = {"anon": False, **dict(options), **dict(credentials)}
    if store != "s3":
        settings.pop("region", None)
    if store == "gs":
        token = settings.pop("secret", None)
        settings.pop("key", None)
        settings = {"timeout": READ_SECONDS, **({"token": token} if token else {}), **settings}
    filesystem = object_store.open_filesystem(store, settings, _CLIENT_LIMITS)
    if store == "s3":
        filesystem.retries = 1  # botocore retries already
    return filesystem


@contextlib.contextmanager
def translate_errors(location: str) -> Iterator[None]:
    """Convert the errors of a store's library to OSErrors without credentials: FileNotFoundError
    for a missing file (not a missing bucket), PermissionError, and Unreachable for all others."""
    try:
        yield
    except PermissionError:
        raise PermissionError(13, "permission denied", location) from None
    except (FileNotFoundError, NotADirectoryError) as error:
        if _is_missing_bucket(error):
            raise Unreachable(f"the bucket does not exist ({location})") from None
        raise FileNotFoundError(2, "there is no file", location) from None
    except Unreachable:
        raise
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  each library has its own errors
        explained = object_store.to_os_error(error, location)
        if isinstance(explained, PermissionError):
            raise explained from None
        raise Unreachable(explained.strerror) from None


def _is_missing_bucket(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    code = (response.get("Error") or {}).get("Code") if isinstance(response, dict) else None
    return code == "NoSuchBucket" or "bucket does not exist" in str(error)


def check_bucket_exists(filesystem: fsspec.AbstractFileSystem, bucket: str) -> None:
    """Check that a bucket exists; only then can a missing file count as deleted. Raises Unreachable
    and what the store's library raises."""
    try:
        filesystem.info(bucket)
    except FileNotFoundError:
        raise Unreachable(f"the bucket does not exist ({bucket})") from None


# -- options for DuckDB and deltalake

_reservations: weakref.WeakValueDictionary[str, _PrefixReservation] = weakref.WeakValueDictionary()
_reservations_lock = threading.Lock()


class _PrefixReservation:
    """The reservation of a prefix for one access; it ends with the last relation that uses it."""

    __slots__ = ("__weakref__", "identity")

    def __init__(self, identity: str) -> None:
        self.identity = identity


def duckdb_secret(access: StoreAccess, prefix: str) -> ScopedSecret | None:
    """The DuckDB secret for a prefix of a bucket (`bucket/folder/`).

    None if DuckDB has to read through fsspec: for stores other than s3, if a parameter is unknown,
    and while an overlapping prefix is in use with another access.
    """
    values = _httpfs_values(access)
    if values is None:
        return None
    scope = f"s3://{prefix}"
    with _reservations_lock:
        for other_scope, other_reservation in list(_reservations.items()):
            if (
                other_scope.startswith(scope) or scope.startswith(other_scope)
            ) and other_reservation.identity != access.identity:
                return None
        reservation = _reservations.get(scope) or _PrefixReservation(access.identity)
        _reservations[scope] = reservation
    return ScopedSecret(
        type="s3", scope=scope, values=values, extension="httpfs", reservation=reservation
    )


_AWS_VARIABLES = {
    "key": ("AWS_ACCESS_KEY_ID",),
    "secret": ("AWS_SECRET_ACCESS_KEY",),
    "token": ("AWS_SESSION_TOKEN",),
    "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
"""The variables from which s3 takes what no option says."""


def _s3_settings(access: StoreAccess) -> dict[str, str]:
    """The settings of s3 by option: as given, else from the environment. Credentials are taken from
    there only together, and not for anonymous access."""
    settings: dict[str, str] = {**access.credentials, **access.options}
    is_complete = bool(access.credentials or access.options.get("anon"))
    for name, variables in _AWS_VARIABLES.items():
        if is_complete and name in CREDENTIALS:
            continue
        value = next(filter(None, map(os.environ.get, variables)), None)
        if value is not None:
            settings.setdefault(name, value)
    return settings


def _httpfs_values(access: StoreAccess) -> dict[str, str] | None:
    if access.store != "s3" or importlib.util.find_spec("duckdb_extension_httpfs") is None:
        return None
    settings = _s3_settings(access)
    names = {"key": "KEY_ID", "secret": "SECRET", "token": "SESSION_TOKEN"}
    values = {names[name]: settings[name] for name in CREDENTIALS if name in settings}
    if access.options.get("anon"):
        values = {}
    elif "KEY_ID" not in values or "SECRET" not in values:
        return None
    if "endpoint_url" in settings:
        parts = urlsplit(settings["endpoint_url"])
        if parts.path.strip("/"):
            return None
        is_encrypted = parts.scheme == "https"
        values |= {
            "ENDPOINT": parts.netloc,
            "URL_STYLE": "path",
            "USE_SSL": str(is_encrypted).lower(),
        }
    elif "region" not in settings:
        return None
    return {**values, "REGION": settings.get("region", "us-east-1")}


def storage_options(access: StoreAccess) -> dict[str, str]:
    """The storage options for deltalake, which itself takes missing credentials from the AWS_*
    variables."""
    settings = _s3_settings(access)
    values = {_AWS_VARIABLES[name][0]: value for name, value in access.credentials.items()}
    if "endpoint_url" in settings:
        values |= {"AWS_ENDPOINT_URL": settings["endpoint_url"], "AWS_ALLOW_HTTP": "true"}
    if access.options.get("anon"):
        values["AWS_SKIP_SIGNATURE"] = "true"
    return {
        **values,
        "AWS_REGION": settings.get("region", "us-east-1"),
        "connect_timeout": f"{CONNECT_SECONDS:g}s",
        "timeout": f"{READ_SECONDS:g}s",
    }
