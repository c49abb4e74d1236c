"""Places in an object store, or whatever else fsspec reaches: paths that the store's rooms use as they use those of a folder.

A write is one put, conditional where it must not replace anything; a name is there whole or not at all, and there are no folders. What tells one
state of an object from another is its ETag with its size. Credentials live in the filesystem object alone.
"""

import contextlib
import errno
import hashlib
import os
import posixpath
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from jammi_lab.errors import ExtensionMissing, InvalidArgument

UNREACHABLE = errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else errno.EIO
"""The number of the OSError of a store that does not answer."""
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
_PATIENCE = {"connect_timeout": 5.0, "read_timeout": 60.0, "retries": {"total_max_attempts": 3}}
_SAID = {
    "NoCredentialsError": "no credentials were found",
    "PartialCredentialsError": "the credentials are not complete",
    "EndpointConnectionError": "the server cannot be reached",
    "ConnectTimeoutError": "no answer in time",
    "ReadTimeoutError": "no answer in time",
}


class RemotePath:
    """A name in a store. It reads like a path: `folder / "name"`, `.parent`, `.name`; `str()` is its URL."""

    __slots__ = ("fs", "key", "scheme")

    def __init__(self, fs: Any, scheme: str, key: str) -> None:
        self.fs, self.scheme, self.key = fs, scheme, key

    @property
    def name(self) -> str:
        """The last part."""
        return posixpath.basename(self.key)

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> "RemotePath":
        """What it lies in."""
        return RemotePath(self.fs, self.scheme, posixpath.dirname(self.key))

    def with_name(self, name: str) -> "RemotePath":
        """Another name beside it."""
        return self.parent / name

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.fs, self.scheme, f"{self.key.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key.lstrip('/')}"

    __fspath__ = __str__

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and (self.fs, self.scheme, self.key) == (other.fs, other.scheme, other.key)

    def __hash__(self) -> int:
        return hash((self.scheme, self.key))

    def below(self, root: "RemotePath") -> str:
        """The rest of the name, from a place that it lies in."""
        return self.key.removeprefix(root.key.rstrip("/") + "/")

    def info(self) -> Mapping[str, Any] | None:
        """What the store says of it; None when it is not there. OSError."""
        with _asking(str(self)):
            try:
                self.fs.invalidate_cache()
                found: Mapping[str, Any] = self.fs.info(self.key)
            except FileNotFoundError:
                return None
            return found if found.get("type") != "directory" else None

    def listed(self) -> dict[str, Mapping[str, Any]]:
        """What the store says of everything below, by name from here; one listing. OSError."""
        with _asking(str(self)):
            try:
                self.fs.invalidate_cache()
                found = self.fs.find(self.key, detail=True)
            except FileNotFoundError:
                return {}
        return {RemotePath(self.fs, self.scheme, key).below(self): said for key, said in sorted(found.items()) if said.get("type") != "directory"}

    def open(self) -> BinaryIO:
        """Its bytes. OSError."""
        with _asking(str(self)):
            return cast(BinaryIO, self.fs.open(self.key, "rb"))

    def read(self, at_most: int) -> bytes | None:
        """Its bytes; None when it is not there or holds more than that. OSError."""
        said = self.info()
        if said is None or said["size"] > at_most:
            return None
        with _asking(str(self)):
            return bytes(self.fs.cat_file(self.key))

    def put(self, source: Path | bytes, *, create: bool) -> None:
        """Give it these bytes in one put. FileExistsError, with `create`, when something is there; OSError."""
        mode = "create" if create else "overwrite"
        try:
            with _asking(str(self)):
                if isinstance(source, bytes):
                    self.fs.pipe_file(self.key, source, mode=mode)
                else:
                    self.fs.put_file(os.fspath(source), self.key, mode=mode)
        except FileNotFoundError:
            raise OSError(UNREACHABLE, "there is no bucket of that name", str(self)) from None

    def unlink(self) -> bool:
        """Whether it was there and is gone. OSError."""
        if self.info() is None:
            return False
        with _asking(str(self)), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.key)
        return True

    def move(self, to: "RemotePath") -> None:
        """Put it under another name. FileNotFoundError, OSError."""
        with _asking(str(self)):
            self.fs.cp_file(self.key, to.key)
            self.fs.rm_file(self.key)


def remote_place(url: str, options: Mapping[str, Any] | None) -> RemotePath:
    """The place that a URL means, reached with the options of its fsspec filesystem. InvalidArgument, ExtensionMissing."""
    import fsspec

    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidArgument(
            "The URL of a workspace holds no credentials and no query.", hint="Give them as storage_options={…}, or by the store's own environment."
        )
    if parts.scheme in ("http", "https", "ftp", "data", "github", "zip", "tar"):
        raise InvalidArgument(f"A workspace cannot be kept at a {parts.scheme}:// address: it has to be written to.")
    try:
        made = fsspec.get_filesystem_class(parts.scheme)
    except ImportError:
        extra = _EXTRAS.get(parts.scheme)
        hint = f'Run: pip install "jammi-lab[{extra}]".' if extra else "Install the fsspec filesystem of that scheme."
        raise ExtensionMissing(f"Workspaces at {parts.scheme}:// need a package that is not installed.", hint=hint) from None
    except ValueError:
        raise InvalidArgument(
            f"No filesystem is known for {parts.scheme}:// addresses.", hint="A folder, s3://bucket/name, gs://…, az://…."
        ) from None
    usual = {"config_kwargs": _PATIENCE} if parts.scheme in ("s3", "s3a") else {}
    try:
        fs = made(**{**usual, **(options or {}), "skip_instance_cache": True, "use_listings_cache": False})
    except TypeError:
        raise InvalidArgument(f"The storage_options are not those of {parts.scheme}:// addresses: {', '.join(sorted(options or {}))}.") from None
    if hasattr(fs, "retries"):
        fs.retries = 2  # s3fs would ask a server that is down for some seconds, on top of what botocore repeats
    key = str(fs._strip_protocol(url)).rstrip("/")
    if not key.strip("/"):
        raise InvalidArgument("The URL of a workspace names a bucket and a folder in it.", hint="For example s3://bucket/lab.")
    return RemotePath(fs, parts.scheme, key)


class RemoteFile:
    """An object that is written to a local file first, `.temp`, and put in one go by `commit()`. The local file stays until `abort()`, to be read."""

    def __init__(self, path: RemotePath, *, create: bool = False) -> None:
        self.path, self._create = path, create
        handle, name = tempfile.mkstemp(prefix="jammi-", suffix=".tmp")
        os.close(handle)
        self.temp = Path(name)

    def commit(self) -> None:
        """Put it. FileExistsError, OSError."""
        self.path.put(self.temp, create=self._create)

    def abort(self) -> None:
        """Remove the local file, if it is there."""
        self.temp.unlink(missing_ok=True)


def state_of(said: Mapping[str, Any]) -> tuple[int, int, int]:
    """What tells one state of an object from another: size, time in ns where nothing better is known, a number made of its ETag or generation."""
    tag = next((str(said[name]) for name in ("ETag", "etag", "generation", "md5Hash", "content_md5") if said.get(name)), None)
    if tag is not None:
        return int(said["size"]), 0, int.from_bytes(hashlib.sha256(tag.encode()).digest()[:7], "big")
    when = next((said[name] for name in ("LastModified", "last_modified", "mtime", "modified", "created") if said.get(name)), 0)
    stamp = when.timestamp() if hasattr(when, "timestamp") else float(when)
    return int(said["size"]), int(stamp * 1e9), 0


def age_ns(said: Mapping[str, Any]) -> int:
    """When an object was made, in ns since 1970; 0 when the store does not say."""
    when = next((said[name] for name in ("LastModified", "last_modified", "mtime", "modified", "created") if said.get(name)), 0)
    return int((when.timestamp() if hasattr(when, "timestamp") else float(when)) * 1e9)


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turns whatever a store's library raises into an OSError that says nothing it should not."""
    try:
        yield
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "something is there already", what) from None
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "nothing is there", what) from None
    except PermissionError:
        raise PermissionError(errno.EACCES, "permission denied", what) from None
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  each store has its own library with errors of its own, which name addresses and more
        raise _explained(error, what) from None


def _explained(error: BaseException, what: str) -> OSError:
    for each in (error, error.__cause__):
        code = str((getattr(each, "response", None) or {}).get("Error", {}).get("Code", "")) if each is not None else ""
        if code in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
            return FileExistsError(errno.EEXIST, "something is there already", what)
        if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"):
            return PermissionError(errno.EACCES, "permission denied", what)
        if code:
            return OSError(UNREACHABLE, f"the store says {code[:40]}", what)
        if each is not None and (said := _SAID.get(type(each).__name__)):
            return OSError(UNREACHABLE, said, what)
    return OSError(UNREACHABLE, f"the store cannot be asked ({type(error).__name__})", what)
