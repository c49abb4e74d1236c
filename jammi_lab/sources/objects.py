"""Object stores: how s3, gs and az addresses are reached, and what DuckDB is told so that it can read them.

Files are listed and opened through fsspec. Where DuckDB's own reader is faster and is told all that it needs, it reads by itself (`scoped`), with a
secret that holds for the source's own prefix; else it reads through `Mounted`, an fsspec filesystem under a protocol of its own, so that two sources
of one store never read with each other's credentials.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jammi_lab.canonical import digest_of
from jammi_lab.errors import ExtensionMissing, InvalidArgument
from jammi_lab.sources.base import ScopedSecret
from jammi_lab.sources.locations import Unreachable

if TYPE_CHECKING:
    import fsspec

STORES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""The store that each scheme means."""
CREDENTIALS = ("key", "secret", "token")
"""Options that are used and never stored."""
OPTIONS: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "secret": (str,),
    "token": (str,),
    "endpoint_url": (str,),
    "region": (str,),
    "anon": (bool,),
}
_EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}
_MODULE_CLASS = {"s3": "S3FileSystem", "gs": "GCSFileSystem", "az": "AzureBlobFileSystem"}
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0


@dataclass(frozen=True)
class Access:
    """How a store is reached. Credentials are in no repr."""

    store: str
    """s3, gs or az."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """endpoint_url, region and anon, as far as they were said."""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """key, secret and token, as far as they were given."""

    @property
    def identity(self) -> str:
        """Equal for equal access; tells nothing."""
        return digest_of([self.store, dict(self.options), dict(self.credentials)])

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The fsspec filesystem; one for equal access. ExtensionMissing naming the extra to install."""
        return _filesystem(self.store, tuple(sorted(self.options.items())), tuple(sorted(self.credentials.items())))


def check_endpoint(options: Mapping[str, Any]) -> None:
    """InvalidArgument for an endpoint that is no http address, or holds a credential."""
    endpoint = options.get("endpoint_url")
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument("The option 'endpoint_url' takes the http(s) address of a server.", hint="For example http://127.0.0.1:9000.")
    if "@" in parts.netloc or parts.query:
        raise InvalidArgument("The option 'endpoint_url' may not hold a credential.", hint="Give it as options key and secret, or by secret=.")


@functools.lru_cache(maxsize=64)
def _filesystem(store: str, options: tuple[tuple[str, Any], ...], credentials: tuple[tuple[str, str], ...]) -> fsspec.AbstractFileSystem:
    module, extra = _EXTRAS[store]
    try:
        made = getattr(importlib.import_module(module), _MODULE_CLASS[store])
    except ImportError:
        raise ExtensionMissing(f"Reading {store}:// addresses needs {module}.", hint=f'Run: pip install "jammi-lab[{extra}]".') from None
    said, given = dict(options), dict(credentials)
    arguments = {"s3": _s3_arguments, "gs": _gs_arguments, "az": _az_arguments}[store](said, given)
    filesystem = made(**arguments, skip_instance_cache=True, use_listings_cache=False)
    if store == "s3":
        filesystem.retries = 1  # botocore repeats already
    return filesystem


def _s3_arguments(said: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    client = {"region_name": said["region"]} if "region" in said else {}
    config = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "retries": {"total_max_attempts": 2}}
    endpoint = {"endpoint_url": said["endpoint_url"]} if "endpoint_url" in said else {}
    return {**given, **endpoint, "anon": bool(said.get("anon", False)), "client_kwargs": client, "config_kwargs": config}


def _gs_arguments(said: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    endpoint = {"endpoint_url": said["endpoint_url"]} if "endpoint_url" in said else {}
    token = {"token": "anon"} if said.get("anon") else {"token": given["token"]} if "token" in given else {}
    return {**endpoint, **token, "timeout": READ_SECONDS}


def _az_arguments(said: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """`key` is the name of the storage account, `secret` its key, `token` a shared access signature."""
    names = {"key": "account_name", "secret": "account_key", "token": "sas_token"}
    arguments: dict[str, Any] = {names[name]: value for name, value in given.items()}
    if "endpoint_url" in said:
        arguments["account_host"] = urlsplit(said["endpoint_url"]).netloc
    return {**arguments, "anon": bool(said.get("anon", False))}


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """Turns whatever a store's library raises into an OSError that says nothing it should not: FileNotFoundError only where a file, and no more,
    is missing; PermissionError; Unreachable for everything else."""
    try:
        yield
    except PermissionError:
        raise PermissionError(13, "permission denied", what) from None
    except (FileNotFoundError, NotADirectoryError) as error:
        if _is_about_the_bucket(error):
            raise Unreachable(f"there is no bucket of that name ({what})") from None
        raise FileNotFoundError(2, "no file is there", what) from None
    except Unreachable:
        raise
    except TimeoutError:
        raise Unreachable("no answer in time") from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  each store has its own library with errors of its own, which name addresses and more
        raise Unreachable(_reason(error)) from None


def _is_about_the_bucket(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    code = (response.get("Error") or {}).get("Code") if isinstance(response, dict) else None
    return code == "NoSuchBucket" or "bucket does not exist" in str(error)


_REASONS = {
    "NoCredentialsError": "no credentials were found",
    "PartialCredentialsError": "the credentials are not complete",
    "CredentialRetrievalError": "no credentials were found",
    "TokenRetrievalError": "the credentials have expired",
    "EndpointConnectionError": "the server cannot be reached",
    "ConnectTimeoutError": "no answer in time",
    "ReadTimeoutError": "no answer in time",
    "ProxyConnectionError": "the proxy cannot be reached",
    "SSLError": "the server's certificate is not accepted",
}


def _reason(error: BaseException) -> str:
    for cause in (error, error.__cause__):
        if cause is not None and (said := _REASONS.get(type(cause).__name__)):
            return said
    response = getattr(error.__cause__ or error, "response", None)
    if isinstance(response, dict) and (code := (response.get("Error") or {}).get("Code")):
        return f"the server says {str(code)[:40]}"
    if isinstance(error, ConnectionError):
        return "the server cannot be reached"
    return f"its server cannot be asked ({type(error).__name__})"


def look_for(files: fsspec.AbstractFileSystem, bucket: str) -> None:
    """Nothing, when the bucket is there: only then is something in it gone. Unreachable; what the store's library raises."""
    try:
        files.info(bucket)
    except FileNotFoundError:
        raise Unreachable(f"there is no bucket of that name ({bucket})") from None


# -- what DuckDB is told -------------------------------------------------------------------------------------------------------------------

_claims: weakref.WeakValueDictionary[str, _Claim] = weakref.WeakValueDictionary()
_claiming = threading.Lock()


class _Claim:
    """That a prefix is read with one access; it ends when no relation holds it any more."""

    __slots__ = ("__weakref__", "identity")

    def __init__(self, identity: str) -> None:
        self.identity = identity


def scoped(access: Access, prefix: str) -> ScopedSecret | None:
    """The secret by which DuckDB's own reader reads below a prefix of a bucket (`bucket/folder/`); None when it must read through fsspec:
    for stores other than s3, where not all that it needs is known, and where another access to an overlapping prefix is in use."""
    values = _httpfs_values(access)
    if values is None:
        return None
    scope = f"s3://{prefix}"
    with _claiming:
        for other, claim in list(_claims.items()):
            if (other.startswith(scope) or scope.startswith(other)) and claim.identity != access.identity:
                return None
        held = _claims.get(scope) or _Claim(access.identity)
        _claims[scope] = held
    return ScopedSecret(type="s3", scope=scope, values=values, extension="httpfs", held=held)


def _httpfs_values(access: Access) -> dict[str, str] | None:
    if access.store != "s3" or importlib.util.find_spec("duckdb_extension_httpfs") is None:
        return None
    said, given = access.options, dict(access.credentials)
    anonymous = bool(said.get("anon"))
    if not given and not anonymous:
        names = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}
        given = {name: os.environ[variable] for name, variable in names.items() if os.environ.get(variable)}
    if not anonymous and not ("key" in given and "secret" in given):
        return None
    endpoint = said.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = said.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    parts = urlsplit(endpoint) if endpoint else None
    if (parts is None and region is None) or (parts is not None and parts.path.strip("/")):
        return None
    values = {} if anonymous else {"KEY_ID": given["key"], "SECRET": given["secret"]}
    if not anonymous and "token" in given:
        values["SESSION_TOKEN"] = given["token"]
    if parts is not None:
        values |= {"ENDPOINT": parts.netloc, "URL_STYLE": "path", "USE_SSL": "true" if parts.scheme == "https" else "false"}
    return {**values, "REGION": region or "us-east-1"}


def for_deltalake(access: Access) -> dict[str, str]:
    """The same for deltalake; what is not said, it takes from the AWS_* variables."""
    names = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}
    told = {names[name]: value for name, value in access.credentials.items()}
    endpoint = access.options.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint is not None:
        told |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
    region = access.options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    signing = {"AWS_SKIP_SIGNATURE": "true"} if access.options.get("anon") else {}
    return {**told, **signing, "AWS_REGION": region, "connect_timeout": f"{CONNECT_SECONDS:g}s", "timeout": f"{READ_SECONDS:g}s"}
