"""Paths in an object store, or in any other fsspec filesystem, with the interface of local paths.

A write is one put, conditional where it must not replace an object. A name exists with its whole
content or not at all, and there are no folders. The state of an object is its ETag with its size.
Credentials are held by the filesystem object only.
"""

import contextlib
import errno
import hashlib
import inspect
import os
import posixpath
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from jammi_lab.core.errors import ExtensionMissing, InvalidArgument
from jammi_lab.core.identifiers import near_names
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.redaction import remember_typed_credentials
from jammi_lab.storage import own_files

UNREACHABLE_ERRNO = errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else errno.EIO
"""The errno of an OSError for a store that does not respond."""
_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
_CLIENT_LIMITS = {
    "connect_timeout": 5.0,
    "read_timeout": 60.0,
    "retries": {"total_max_attempts": 3},
}
_ERROR_TEXTS = {
    "NoCredentialsError": "no credentials were found",
    "PartialCredentialsError": "the credentials are incomplete",
    "CredentialRetrievalError": "no credentials were found",
    "TokenRetrievalError": "the credentials have expired",
    "EndpointConnectionError": "the server cannot be reached",
    "ConnectTimeoutError": "no response in time",
    "ReadTimeoutError": "no response in time",
    "TimeoutError": "no response in time",
    "FSTimeoutError": "no response in time",
    "ProxyConnectionError": "the proxy cannot be reached",
    "SSLError": "the server's certificate is not trusted",
}


class RemotePath:
    """A path in a store. It works like a local path: `folder / "name"`, `.parent`, `.name`. `str()`
    is its URL."""

    __slots__ = ("fs", "key", "scheme")

    def __init__(self, fs: Any, scheme: str, key: str) -> None:
        self.fs, self.scheme, self.key = fs, scheme, key

    @property
    def name(self) -> str:
        """The last part."""
        return posixpath.basename(self.key)

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> "RemotePath":
        """The containing folder."""
        return RemotePath(self.fs, self.scheme, posixpath.dirname(self.key))

    def with_name(self, name: str) -> "RemotePath":
        """The path with another last part."""
        return self.parent / name

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.fs, self.scheme, f"{self.key.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key.lstrip('/')}"

    __fspath__ = __str__

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and (self.fs, self.scheme, self.key) == (
            other.fs,
            other.scheme,
            other.key,
        )

    def __hash__(self) -> int:
        return hash((self.scheme, self.key))

    def relative_to(self, root: "RemotePath") -> str:
        """The path relative to a root that contains it."""
        return self.key.removeprefix(root.key.rstrip("/") + "/")

    def info(self) -> Mapping[str, Any] | None:
        """The store's metadata of the object; None when it does not exist. Raises OSError."""
        with _translate_errors(str(self)):
            try:
                self.fs.invalidate_cache()  # another kernel may have written since
                info: Mapping[str, Any] = self.fs.info(self.key)
            except FileNotFoundError:
                return None
            return info if info.get("type") != "directory" else None

    def list_objects(self) -> dict[str, Mapping[str, Any]]:
        """The store's metadata of all objects below, by relative path, in one listing. Raises
        OSError."""
        with _translate_errors(str(self)):
            try:
                self.fs.invalidate_cache()
                infos = self.fs.find(self.key, detail=True)
            except FileNotFoundError:
                return {}
        return {
            RemotePath(self.fs, self.scheme, key).relative_to(self): info
            for key, info in sorted(infos.items())
            if info.get("type") != "directory"
        }

    def open(self) -> BinaryIO:
        """Open the object for reading. Raises OSError."""
        with _translate_errors(str(self)):
            return cast(BinaryIO, self.fs.open(self.key, "rb"))

    def read(self, max_bytes: int) -> bytes | None:
        """The content; None when the object does not exist or is larger than `max_bytes`.
        Raises OSError."""
        info = self.info()
        if info is None or info["size"] > max_bytes:
            return None
        with _translate_errors(str(self)):
            return bytes(self.fs.cat_file(self.key))

    def put(self, source: Path | bytes, *, create: bool) -> None:
        """Write the content in one put. Raises FileExistsError when `create` is set and the object
        exists; OSError."""
        mode = "create" if create else "overwrite"
        try:
            with _translate_errors(str(self)):
                if isinstance(source, bytes):
                    self.fs.pipe_file(self.key, source, mode=mode)
                else:
                    self.fs.put_file(os.fspath(source), self.key, mode=mode)
        except FileNotFoundError:
            raise OSError(
                UNREACHABLE_ERRNO, "there is no bucket with that name", str(self)
            ) from None

    def unlink(self) -> bool:
        """Remove the object. Returns whether it existed. Raises OSError."""
        if self.info() is None:
            return False
        with _translate_errors(str(self)), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.key)
        return True

    def move(self, target: "RemotePath") -> None:
        """Move the object to another path. Raises FileNotFoundError, OSError."""
        with _translate_errors(str(self)):
            # Object stores cannot rename. A crash in between leaves both, never neither.
            self.fs.cp_file(self.key, target.key)
            self.fs.rm_file(self.key)


def remote_path(url: str, options: Mapping[str, Any] | None) -> RemotePath:
    """The path that a URL names, accessed with these options of its fsspec filesystem. Raises
    InvalidArgument, ExtensionMissing."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its text is not repeated: it may hold a password
        raise InvalidArgument(
            "The URL of a workspace is not valid.", hint='A store is named like "s3://bucket/lab".'
        ) from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidArgument(
            "The URL of a workspace must not contain credentials or a query.",
            hint="Pass them as storage_options={…}, or in the environment variables of the store.",
        )
    if parts.scheme in ("http", "https", "ftp", "data", "github", "zip", "tar"):
        raise InvalidArgument(
            f"A workspace cannot be stored at a {parts.scheme}:// URL, which is not writable."
        )
    fs = open_filesystem(parts.scheme, options or {}, _CLIENT_LIMITS)
    if hasattr(fs, "retries"):
        # s3fs retries a server that is down for some seconds, in addition to botocore's retries.
        fs.retries = 2
    key = str(fs._strip_protocol(url)).rstrip("/")
    if not key.strip("/"):
        raise InvalidArgument(
            "The URL of a workspace must name a bucket and a folder in it.",
            hint="For example s3://bucket/lab.",
        )
    return RemotePath(fs, parts.scheme, key)


def open_filesystem(
    scheme: str, options: Mapping[str, Any], client_limits: Mapping[str, Any]
) -> Any:
    """The fsspec filesystem of a URL scheme with these options; a client of s3 has these limits.
    Raises InvalidArgument, ExtensionMissing."""
    filesystem_class = _filesystem_class(scheme)
    default_options = {"config_kwargs": client_limits} if scheme in ("s3", "s3a") else {}
    options = _filesystem_options(scheme, filesystem_class, options)
    try:
        return filesystem_class(
            # No caches: a cached instance would keep the credentials after the workspace is
            # closed, and cached listings do not see other kernels' writes.
            **{
                **default_options,
                **options,
                "skip_instance_cache": True,
                "use_listings_cache": False,
            }
        )
    except TypeError:
        raise InvalidArgument(
            f"These storage_options are not valid for {scheme}:// URLs: "
            f"{', '.join(sorted(options))}."
        ) from None


def _filesystem_class(scheme: str) -> Any:
    """The fsspec class for a URL scheme. Raises InvalidArgument, ExtensionMissing."""
    with import_modules():
        import fsspec

    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError:
        extra = _EXTRAS.get(scheme)
        hint = (
            f'Run: pip install "jammi-lab[{extra}]".'
            if extra
            else "Install the fsspec filesystem for that scheme."
        )
        raise ExtensionMissing(
            f"{scheme}:// URLs need a package that is not installed.", hint=hint
        ) from None
    except ValueError:
        raise InvalidArgument(
            f"There is no filesystem for {scheme}:// URLs.",
            hint="Use a folder, s3://bucket/name, gs://… or az://….",
        ) from None


_AZURE_NAMES = {"key": "account_name", "secret": "account_key", "token": "sas_token"}
_COMMON_OPTIONS = (
    *("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"),
    *("profile", "session_vars", "event_hooks", "include_builtin_handlers"),
)
"""Options that fsspec, and the session of s3fs, take without naming them in a signature."""


def _filesystem_options(
    scheme: str, filesystem_class: type, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of an fsspec filesystem, from those and the names of source options: key, secret,
    token, endpoint_url, region, anon. InvalidArgument for an unknown one, which the library of the
    store would ignore, or report only when it is used."""
    settings = dict(options)
    if scheme in ("s3", "s3a") and "region" in settings:
        region = {"region_name": settings.pop("region")}
        settings["client_kwargs"] = {**region, **(settings.get("client_kwargs") or {})}
    elif scheme in ("gs", "gcs") and settings.pop("anon", False):
        settings |= {"token": "anon"}
    elif scheme in ("az", "abfs", "abfss"):
        settings = {_AZURE_NAMES.get(name, name): value for name, value in settings.items()}
        if "endpoint_url" in settings:
            settings["account_host"] = urlsplit(settings.pop("endpoint_url")).netloc
    elif scheme not in ("s3", "s3a", "gs", "gcs"):
        return settings  # fsspec's other filesystems take any option
    known = {*_COMMON_OPTIONS}.union(
        *(
            inspect.signature(vars(c)["__init__"]).parameters
            for c in filesystem_class.__mro__
            if "__init__" in vars(c)
        )
    ) - {"self", "args", "kwargs", "storage_options"}
    if unknown := sorted(settings.keys() - known):
        remember_typed_credentials(unknown[0])
        words = ("key", "secret", "token", "endpoint_url", "region", "anon")
        raise InvalidArgument(
            f"Unknown storage option {unknown[0]!r} for {scheme}:// URLs.",
            near=near_names(unknown[0], [*words, *known]),
            hint=f"Options are {', '.join(words)}, and those of {filesystem_class.__name__}.",
        )
    return settings


class RemoteFile:
    """An object written to a local file, `.temp`, and put in one request by `commit()`. The local
    file remains readable until `abort()`."""

    def __init__(self, path: RemotePath, *, create: bool = False) -> None:
        self.path, self._create = path, create
        handle, name = tempfile.mkstemp(prefix="jammi-", suffix=".tmp")
        os.close(handle)
        self.temp = Path(name)

    def commit(self) -> None:
        """Put the object. Raises FileExistsError, OSError."""
        self.path.put(self.temp, create=self._create)

    def abort(self) -> None:
        """Remove the local file, if it exists."""
        own_files.discard(self.temp)


def object_state(info: Mapping[str, Any]) -> tuple[int, int, int]:
    """What distinguishes states of an object: its size; its time in ns where nothing better is
    known; a number derived from its ETag or generation."""
    tag = next(
        (
            str(info[name])
            for name in ("ETag", "etag", "generation", "md5Hash", "content_md5")
            if info.get(name)
        ),
        None,
    )
    if tag is not None:
        return (
            int(info["size"]),
            0,
            int.from_bytes(hashlib.sha256(tag.encode()).digest()[:7], "big"),
        )
    return int(info["size"]), modified_ns(info), 0


def modified_ns(info: Mapping[str, Any]) -> int:
    """When an object was last modified, in ns since 1970; 0 when the store does not report it."""
    modified = next(
        (
            info[name]
            for name in ("LastModified", "last_modified", "mtime", "modified", "created")
            if info.get(name)
        ),
        0,
    )
    return int((modified.timestamp() if hasattr(modified, "timestamp") else float(modified)) * 1e9)


@contextlib.contextmanager
def _translate_errors(url: str) -> Iterator[None]:
    """Convert any exception of a store's library to an OSError whose message holds no
    credentials."""
    try:
        yield
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "it already exists", url) from None
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "it does not exist", url) from None
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  each library has its own errors, which may show URLs
        raise to_os_error(error, url) from None


def to_os_error(error: BaseException, url: str) -> OSError:
    """The error for one of a store's library, whose message holds no credentials."""
    for cause in (error, error.__cause__):
        code = (
            str((getattr(cause, "response", None) or {}).get("Error", {}).get("Code", ""))
            if cause is not None
            else ""
        )
        if code in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
            return FileExistsError(errno.EEXIST, "it already exists", url)
        if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"):
            return PermissionError(errno.EACCES, "permission denied", url)
        if code:
            return OSError(UNREACHABLE_ERRNO, f"the store reports {code[:40]}", url)
        if (text := _ERROR_TEXTS.get(type(cause).__name__)) is not None:
            return OSError(UNREACHABLE_ERRNO, text, url)
    if isinstance(error, PermissionError):  # not of expired credentials, which have a code
        return PermissionError(errno.EACCES, "permission denied", url)
    return OSError(UNREACHABLE_ERRNO, f"the store cannot be reached ({type(error).__name__})", url)
