"""Files behind http and https: what a server says of one, and its bytes, by ranges where the server gives them and else as a whole.

Nothing but the standard library is needed. Credentials go in headers, or in the query that was taken out of the address, and to the address's own
host only: a redirect elsewhere does not carry them.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import io
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, BinaryIO, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from jammi_lab.canonical import digest_of
from jammi_lab.sources.locations import Unreachable

SECONDS = 20.0
"""How long a server may be silent."""
_BLOCK = 1 << 20
_IN_MEMORY = 16 << 20
_KEPT_BLOCKS = 16
_NO_HEAD = (400, 403, 405, 501)
"""Answers to HEAD of servers that may still answer GET."""
_CROSS = ("authorization", "cookie")


@dataclass(frozen=True, slots=True)
class Door:
    """How one server is asked. Credentials are in no repr."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What goes with each request."""
    query: str = field(default="", repr=False)
    """What is put behind each address."""

    @property
    def identity(self) -> str:
        """Equal for equal doors; tells nothing."""
        return digest_of([dict(self.headers), self.query])


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of a file."""

    size: int | None
    """Bytes; None when it does not say."""
    etag: str | None
    """Its strong entity tag."""
    modified: int | None
    """Last-Modified, in seconds since the epoch; None when it is not given, or so young that a further change could still bear it."""
    ranges: bool
    """Whether parts can be asked for."""


def door(user: str | None, password: str | None, query: str, secret: str | None) -> Door:
    """The door that an address's own credentials, or a secret's text, open.

    A secret is `user:password`, a query that begins with `?`, or a token.
    """
    if secret is not None and secret.startswith("?"):
        query = "&".join(part for part in (query, secret[1:]) if part)
    elif secret is not None and ":" in secret:
        user, _, password = secret.partition(":")
    elif secret is not None and user is not None:
        password = secret
    elif secret is not None:
        return Door({"Authorization": f"Bearer {secret}"}, query)
    if user is None:
        return Door({}, query)
    basic = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    return Door({"Authorization": f"Basic {basic}"}, query)


def ask(address: str, entrance: Door) -> Told:
    """What the server says of a file, by HEAD, or by a GET whose body is not read.

    FileNotFoundError for 404 and 410, PermissionError, Unreachable.
    """
    try:
        answer = _open(address, entrance, "HEAD")
    except _Refused as refused:
        if refused.code not in _NO_HEAD:
            raise refused.said(address) from None
        answer = _get(address, entrance)
    with answer:
        return _told(answer)


def _told(answer: http.client.HTTPResponse) -> Told:
    headers = answer.headers
    etag = headers.get("ETag", "").strip()
    length = headers.get("Content-Length", "")
    packed = headers.get("Content-Encoding", "identity").lower() != "identity"
    modified, date = _seconds(headers.get("Last-Modified")), _seconds(headers.get("Date"))
    settled = modified is not None and date is not None and modified < date - 2
    return Told(
        size=int(length) if length.isdigit() and not packed else None,
        etag=etag if etag.startswith('"') else None,
        modified=modified if settled else None,
        ranges=headers.get("Accept-Ranges", "").lower() == "bytes" and not packed,
    )


def _seconds(date: str | None) -> int | None:
    try:
        return None if date is None else int(email.utils.parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError):
        return None


def read(address: str, entrance: Door, told: Told) -> BinaryIO:
    """The bytes of a file, seekable: asked for in parts where the server gives parts, else fetched as a whole. OSError as `ask`."""
    if told.ranges and told.size is not None and told.size > _IN_MEMORY:
        return cast(BinaryIO, io.BufferedReader(_Parts(address, entrance, told), _BLOCK))
    whole = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  the caller closes it
    try:
        with _get(address, entrance) as answer:
            _copied(answer, whole, told.size)
        whole.seek(0)
    except BaseException:
        whole.close()
        raise
    return cast(BinaryIO, whole)


def _copied(answer: http.client.HTTPResponse, into: IO[bytes], size: int | None) -> None:
    got = 0
    try:
        while block := answer.read(_BLOCK):
            got += into.write(block)
    except http.client.IncompleteRead:
        raise Unreachable("the file did not come whole") from None
    except TimeoutError:
        raise Unreachable("no answer in time") from None
    if size is not None and got != size:
        raise Unreachable("the file changed while it was read, or did not come whole")


class _Parts(io.RawIOBase):
    """A file of which one part at a time is asked for; all parts are of one state of it."""

    def __init__(self, address: str, entrance: Door, told: Told) -> None:
        self._address, self._entrance, self._told = address, entrance, told
        self._size, self._at = told.size or 0, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it is read next."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Read elsewhere next."""
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the stub's buffer type is private
        """Ask for as many bytes as fit. Unreachable, also when the file changed meanwhile."""
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        headers = {"Range": f"bytes={self._at}-{self._at + wanted - 1}"}
        if self._told.etag is not None:
            headers["If-Range"] = self._told.etag
        with _get(self._address, self._entrance, headers) as answer:
            if answer.status != http.client.PARTIAL_CONTENT:
                raise Unreachable("the file changed while it was read")
            try:
                part = answer.read(wanted)
            except (http.client.IncompleteRead, TimeoutError):
                raise Unreachable("the file did not come whole") from None
        if len(part) != wanted:
            raise Unreachable("the file did not come whole")
        buffer[:wanted] = part
        self._at += wanted
        return wanted


# -- one request ---------------------------------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """An answer that is none of 2xx."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def said(self, address: str) -> OSError:
        if self.code in (404, 410):
            return FileNotFoundError(2, "no file is there", address)
        if self.code in (401, 403, 407):
            return PermissionError(13, "permission denied", address)
        return Unreachable(f"the server answers {self.code}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, with credentials only to the host that they are for, and never from https down to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """The next request, or HTTPError."""
        if not newurl.startswith(("http://", "https://")) or (req.full_url.startswith("https://") and newurl.startswith("http://")):
            raise urllib.error.HTTPError(req.full_url, code, "refused", headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = "HEAD" if req.get_method() == "HEAD" else "GET"
            if urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
                for name in list(following.headers):
                    if name.lower() in _CROSS:
                        following.remove_header(name)
        return following


def _get(address: str, entrance: Door, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
    try:
        return _open(address, entrance, "GET", headers)
    except _Refused as refused:
        raise refused.said(address) from None


def _open(address: str, entrance: Door, method: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
    """The answer. _Refused; Unreachable, which tells neither query nor user."""
    sent = {"User-Agent": "jammi-lab", "Accept-Encoding": "identity", **entrance.headers, **(headers or {})}
    opener = urllib.request.build_opener(_Redirects)
    try:
        request = urllib.request.Request(_sendable(address, entrance.query), headers=sent, method=method)  # noqa: S310  http and https only
        return cast(http.client.HTTPResponse, opener.open(request, timeout=SECONDS))
    except urllib.error.HTTPError as error:
        error.close()
        failed: Exception = _Refused(error.code)
    except urllib.error.URLError as error:
        failed = Unreachable(_reason(error.reason))
    except (OSError, http.client.HTTPException) as error:
        failed = Unreachable(_reason(error))
    raise failed  # out here, or it would keep an error as its context that holds the whole address


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "the server refuses the connection"
    if type(error).__name__ in ("SSLError", "SSLCertVerificationError"):
        return "the server's certificate is not accepted"
    if type(error).__name__ == "gaierror":
        return "there is no server of that name"
    return "the server cannot be asked"


def _sendable(address: str, query: str) -> str:
    """The address as it goes over the wire: what is not ASCII escaped, the withheld query put back."""
    parts = urlsplit(address)
    path = quote(unquote(parts.path), safe="/~!$&'()*+,;=:@%") if not parts.path.isascii() or " " in parts.path else parts.path
    said = "&".join(part for part in (quote(parts.query, safe="=&%+~:/?,;!$'()*@"), query) if part)
    return urlunsplit((parts.scheme, parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc, path, said, ""))
