"""HTTP and HTTPS files: metadata by HEAD, and the bytes by range requests if the server supports
them, else by one download.

Uses the standard library only. Credentials are sent in headers, or in the query that was stripped
from the URL, and only to the host of the URL: a redirect to another host does not carry them.
"""

from __future__ import annotations

import base64
import http.client
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import IO, BinaryIO, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fsspec.spec import AbstractBufferedFile

from jammi_lab.core import foreign_errors
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.sources.locations import Unreachable

TIMEOUT_SECONDS = 20.0
"""The timeout of one network operation."""
BLOCK_BYTES = 1 << 20
MAX_MEMORY_BYTES = 16 << 20
_HEAD_REFUSED_CODES = (400, 403, 405, 501)
"""Status codes to HEAD after which GET may still succeed."""
_STRONG_TAG = re.compile(r'"[^"]+"')
"""An entity tag that names the bytes: not an empty one, which some servers send for every file."""
_LENGTH = re.compile("[0-9]{1,18}")
"""A length in bytes that a file can have."""
_CREDENTIAL_HEADERS = ("authorization", "cookie")


@dataclass(frozen=True, slots=True)
class HttpCredentials:
    """The credentials for one server; not part of the repr."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers of each request."""
    query: str = field(default="", repr=False)
    """The query to append to each URL."""

    @property
    def identity(self) -> str:
        """A digest that is equal for equal credentials and reveals nothing."""
        return digest_of([dict(self.headers), self.query])


@dataclass(frozen=True, slots=True)
class HeadResponse:
    """A server's metadata of a file."""

    size: int | None
    """Size in bytes; None if unknown."""
    etag: str | None
    """The strong entity tag; None if there is none."""
    date: str
    """Last-Modified as the server sent it; may be empty."""
    ranges: bool
    """Whether the server supports range requests."""
    address: str
    """Where redirects led to, without a query, which may be a signature; an entity tag tells apart
    states of one address (RFC 9110, 8.8.3)."""


def http_credentials(
    user: str | None, password: str | None, query: str, secret: str | None
) -> HttpCredentials:
    """The credentials from a URL's user, password and query, or from a secret's text:
    `user:password`, a query that begins with `?`, or a bearer token."""
    if secret is not None and secret.startswith("?"):
        query = "&".join(part for part in (query, secret[1:]) if part)
    elif secret is not None and ":" in secret:
        user, _, password = secret.partition(":")
    elif secret is not None and user is not None:
        password = secret
    elif secret is not None:
        return HttpCredentials({"Authorization": f"Bearer {secret}"}, query)
    if user is None:
        return HttpCredentials({}, query)
    basic = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    return HttpCredentials({"Authorization": f"Basic {basic}"}, query)


def head(url: str, credentials: HttpCredentials) -> HeadResponse:
    """The metadata of a file, by HEAD, or by a GET whose body is not read.

    An entity tag does not count where redirects lead elsewhere each time. Raises FileNotFoundError
    for 404 and 410, PermissionError, Unreachable.
    """
    told = _head(url, credentials)
    is_redirected = told.address != _request_url(url, "").partition("?")[0]
    if told.etag and is_redirected and _head(url, credentials).address != told.address:
        return replace(told, etag=None)
    return told


def _head(url: str, credentials: HttpCredentials) -> HeadResponse:
    try:
        response = _open(url, credentials, "HEAD")
    except _HttpError as error:
        if error.code not in _HEAD_REFUSED_CODES:
            raise error.as_os_error(url) from None
        response = _get(url, credentials)
    with response:
        return _parse_head(response)


def _parse_head(response: http.client.HTTPResponse) -> HeadResponse:
    headers = response.headers
    etag = headers.get("ETag", "").strip()
    length = headers.get("Content-Length", "")
    is_encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
    return HeadResponse(
        size=int(length) if _LENGTH.fullmatch(length) and not is_encoded else None,
        etag=etag if _STRONG_TAG.fullmatch(etag) else None,
        date=headers.get("Last-Modified", ""),
        ranges=headers.get("Accept-Ranges", "").lower() == "bytes" and not is_encoded,
        address=response.url.partition("?")[0],
    )


def _check_same(response: http.client.HTTPResponse, metadata: HeadResponse) -> None:
    now = _parse_head(response)
    if metadata.etag and (now.etag, now.address) != (metadata.etag, metadata.address):
        raise Unreachable("the file changed during the read")


def open_url(url: str, credentials: HttpCredentials, metadata: HeadResponse) -> BinaryIO:
    """Open a file, seekable: a large one by range requests if the server supports them, any other
    by one download. Raises OSError as `head`."""
    if metadata.ranges and metadata.size is not None and metadata.size > MAX_MEMORY_BYTES:
        return cast(BinaryIO, _RangeFile(url, credentials, metadata))
    buffer = tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES)  # noqa: SIM115  the caller closes it
    try:
        with _get(url, credentials) as response:
            _check_same(response, metadata)
            _copy_body(response, buffer, metadata.size)
        buffer.seek(0)
    except BaseException:
        buffer.close()
        raise
    return cast(BinaryIO, buffer)


def _copy_body(response: http.client.HTTPResponse, target: IO[bytes], size: int | None) -> None:
    received = 0
    while block := _read(response, BLOCK_BYTES):
        received += target.write(block)
    if size is not None and received != size:
        raise Unreachable("the file changed during the read, or the download is incomplete")


def _read(response: http.client.HTTPResponse, size: int) -> bytes:
    """At most `size` bytes of the body. Raises Unreachable where it ends early, does not come, or
    has parts of impossible lengths."""
    try:
        return response.read(size)
    except (TimeoutError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(_reason(error)) from None


class _RangeFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec ships no types
    """A file that is read by range requests; all ranges must be of one version."""

    def __init__(self, url: str, credentials: HttpCredentials, metadata: HeadResponse) -> None:
        super().__init__(None, url, block_size=BLOCK_BYTES, size=metadata.size)
        self._credentials, self._metadata = credentials, metadata

    def _fetch_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`. Raises Unreachable, also if the file has
        changed."""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if self._metadata.etag is not None:
            headers["If-Range"] = self._metadata.etag
        with _get(self.path, self._credentials, headers) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                raise Unreachable("the file changed during the read")
            _check_same(response, self._metadata)
            part = _read(response, end - start)
        if len(part) != end - start:
            raise Unreachable("the download is incomplete")
        return part


# -- one request


class _HttpError(Exception):
    """A response other than 2xx."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def as_os_error(self, url: str) -> OSError:
        if self.code in (404, 410):
            return FileNotFoundError(2, "there is no file", url)
        if self.code in (401, 403, 407):
            return PermissionError(13, "permission denied", url)
        return Unreachable(f"the server returned HTTP {self.code}")


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows redirects, without credentials to another host, and never from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """The next request. Raises HTTPError."""
        if not newurl.startswith(("http://", "https://")) or (
            req.full_url.startswith("https://") and newurl.startswith("http://")
        ):
            raise urllib.error.HTTPError(req.full_url, code, "refused", headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = "HEAD" if req.get_method() == "HEAD" else "GET"
            if urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
                for name in list(following.headers):
                    if name.lower() in _CREDENTIAL_HEADERS:
                        following.remove_header(name)
        return following


def _get(
    url: str, credentials: HttpCredentials, headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    try:
        return _open(url, credentials, "GET", headers)
    except _HttpError as error:
        raise error.as_os_error(url) from None


def _open(
    url: str, credentials: HttpCredentials, method: str, headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    """Send one request. Raises _HttpError, and Unreachable without query or user in its text."""
    all_headers = {
        "User-Agent": "jammi-lab",
        "Accept-Encoding": "identity",
        **credentials.headers,
        **(headers or {}),
    }
    opener = urllib.request.build_opener(_RedirectHandler)
    try:
        request = urllib.request.Request(  # noqa: S310
            _request_url(url, credentials.query), headers=all_headers, method=method
        )
        return cast(http.client.HTTPResponse, opener.open(request, timeout=TIMEOUT_SECONDS))
    except urllib.error.HTTPError as error:
        error.close()
        failure: Exception = _HttpError(error.code)
    except urllib.error.URLError as error:
        failure = Unreachable(_reason(error.reason))
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a redirect
        failure = Unreachable(_reason(error))
    raise failure  # outside the handlers: their errors, which contain the whole URL, are no context


def _reason(error: object) -> str:
    text = f"{type(error).__name__}: {error}"
    return foreign_errors.explain("http", text).message or "the request failed"


def _request_url(url: str, query: str) -> str:
    """The URL to send: non-ASCII characters escaped, the stripped query appended."""
    parts = urlsplit(url)
    path = (
        quote(unquote(parts.path), safe="/~!$&'()*+,;=:@%")
        if not parts.path.isascii() or " " in parts.path
        else parts.path
    )
    full_query = "&".join(
        part for part in (quote(parts.query, safe="=&%+~:/?,;!$'()*@"), query) if part
    )
    return urlunsplit(
        (
            parts.scheme,
            parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc,
            path,
            full_query,
            "",
        )
    )
