"""An S3 API on the loopback interface, in a process of its own, and an http server whose answers a
test can shape."""

import contextlib
import functools
import http.server
import io
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jammi_lab.storage.object_store import RemotePath

_SERVER = Path(__file__).parents[2] / "notebooks/data/s3_server.py"
KEY, SECRET = "AKIACANARYKEY", "s3cr3t/CANARY+value"


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server that answers for S3; it ends with the block."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with subprocess.Popen(
        [sys.executable, str(_SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.kill()


@dataclass
class Bucket:
    """One bucket of such a server."""

    name: str
    endpoint: str
    client: Any

    @property
    def options(self) -> dict[str, Any]:
        """The options by which a source reaches it."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.endpoint}

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_in_parts(self, key: str, content: bytes) -> None:
        """The same bytes as an upload of several parts, which has another ETag."""
        begun = self.client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"]
        sent = self.client.upload_part(
            Bucket=self.name, Key=key, UploadId=begun, PartNumber=1, Body=content
        )
        parts = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
        self.client.complete_multipart_upload(
            Bucket=self.name, Key=key, UploadId=begun, MultipartUpload=parts
        )

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def keys(self, suffix: str = "", prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix).get("Contents", [])
        return [each["Key"] for each in found if each["Key"].endswith(suffix)]

    def remove(self, prefix: str) -> None:
        for key in self.keys(prefix=prefix):
            self.client.delete_object(Bucket=self.name, Key=key)

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"


class StoredPath(RemotePath):
    """A file or folder of a store, with what tests use of a local path."""

    __slots__ = ()

    @property
    def parent(self) -> "StoredPath":
        return stored(super().parent)

    def __truediv__(self, name: str) -> "StoredPath":
        return stored(super().__truediv__(name))

    def exists(self) -> bool:
        return self.info() is not None or bool(self.list_objects())

    def read_bytes(self) -> bytes:
        return bytes(self.fs.cat_file(self.key))

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        self.put(content, create=False)

    def write_text(self, content: str) -> None:
        self.write_bytes(content.encode())

    def iterdir(self) -> "Iterator[StoredPath]":
        return (self / name for name in self.list_objects() if "/" not in name)


def stored(path: RemotePath) -> StoredPath:
    """The same path for a test."""
    return StoredPath(path.fs, path.scheme, path.key)


@functools.cache
def _client(endpoint: str) -> Any:
    """What asks a server; making one takes longer than most tests."""
    import botocore.session

    return botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )


def bucket_of(endpoint: str) -> Bucket:
    """A new bucket."""
    client = _client(endpoint)
    name = f"lab-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return Bucket(name, endpoint, client)


def parquet_bytes(**columns: list[Any]) -> bytes:
    """A Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@dataclass
class Web:
    """What an http server gives: bytes by path, and how."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: Callable[[bytes], str] | None = None
    """From the bytes to the ETag header."""
    modified: str | None = None
    """The Last-Modified header."""
    ranges: bool = False
    length: bool = True
    """Whether Content-Length is told."""
    head: bool = True
    """Whether HEAD is answered."""
    status: int | None = None
    """An answer to everything, in place of the files."""
    required: str | None = None
    """What must be in the Authorization header or the query."""
    redirect: dict[str, str] = field(default_factory=dict)
    """Where a path leads."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Authorization of each request."""
    address: str = ""

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


@contextlib.contextmanager
def web_server() -> Iterator[Web]:
    """A server on a free port."""
    web = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, body: bool) -> None:
            path, _, query = self.path.lstrip("/").partition("?")
            said = self.headers.get("Authorization")
            web.asked.append((self.command, self.path, said))
            if web.status is not None or (self.command == "HEAD" and not web.head):
                return self._plain(web.status or 405)
            if path in web.redirect:
                return self._plain(302, ("Location", web.redirect[path]))
            if web.required is not None and web.required not in f"{said} {query}":
                return self._plain(401)
            if path not in web.files:
                return self._plain(404)
            return self._file(web.files[path], body)

        def _plain(self, status: int, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for header in (*headers, ("Content-Length", "0")):
                self.send_header(*header)
            self.end_headers()

        def _file(self, content: bytes, body: bool) -> None:
            wanted = self.headers.get("Range") if web.ranges else None
            part = content
            if wanted:
                first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
                part = content[first : last + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            else:
                self.send_response(200)
            if web.length or wanted:
                self.send_header("Content-Length", str(len(part)))
            if web.ranges:
                self.send_header("Accept-Ranges", "bytes")
            if web.etag is not None:
                self.send_header("ETag", web.etag(content))
            if web.modified is not None:
                self.send_header("Last-Modified", web.modified)
            self.end_headers()
            if body:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(part)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(
            target=server.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="test-web",
            daemon=True,
        ).start()
        web.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield web
        finally:
            server.shutdown()


def without_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials from this machine's own surroundings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The address of a server that answers for S3, for the whole session."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket of its own, with nothing of this machine's own access to AWS."""
    without_aws(monkeypatch)
    return bucket_of(endpoint)
