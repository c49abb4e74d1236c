"""Redaction of credentials that this process has used, as a last safeguard for displayed texts.

Credentials are never stored and never part of a statement. This module catches those that a library
repeats in its own messages.
"""

import functools
import json
import re
import threading
from urllib.parse import quote, quote_plus, unquote

_MIN_UNAMBIGUOUS_LENGTH = 6
_credentials: dict[str, None] = {}
"""Every form of every credential of this process; a credential may turn up at any later time."""
_lock = threading.Lock()
# These are compiled by `re` when they are first used, which is later than `%load_ext`.
_ASSIGNED = (
    r"(?<!\w)(?>\w*?(?i:pass|pwd|secret|token|account_?key|access_?key))\w*\s*="
    r"\s*(?:'((?:[^'\\]|\\.|'')*)|\"([^\"]*)|([^\s&;,'\"]+))"
)
"""A password in a connection string or a query."""
_ADDRESS_SETTING = r"(?i)\b(?:password|passwd|pwd|accountkey)\s*="
_USER_PART = r"[\s'\"(<\[]*+(?:[\w+.-]*+:?/++)?+([^\n]*)@"
"""What stands before the last @, without a scheme."""


def remember_credential(credential: str) -> None:
    """Redact this credential from now on, also in the forms in which texts quote it.

    A very short one could be an ordinary word. It is redacted only where a value is written: after
    `=`, `:` or a quote.
    """
    if not credential.strip() or credential in _credentials:
        return
    import html  # 1 ms, and few processes use a credential

    encoded = quote(credential, safe="", errors="surrogatepass")
    forms = {
        credential,
        encoded,
        quote(credential, errors="surrogatepass"),
        quote_plus(credential, errors="surrogatepass"),
        re.sub("%..", lambda match: match[0].lower(), encoded),
        repr(credential)[1:-1],
        json.dumps(credential)[1:-1],
        json.dumps(credential, ensure_ascii=False)[1:-1],
        credential.replace("'", "''"),
        html.escape(credential),
        html.escape(repr(credential)[1:-1]),
    }
    with _lock:
        _credentials.update(dict.fromkeys(forms))
        _credential_pattern.cache_clear()


def typed_credentials(address: str) -> list[str]:
    """What may be a password in an address as typed, in whatever spelling."""
    texts = [text for groups in re.findall(_ASSIGNED, address) for text in groups]
    user = _user_part(address)
    texts += [user.partition(":")[2], user.rpartition(":")[2]]
    return [text for text in texts if text]


def _user_part(address: str) -> str:
    """The user with what may be a password; empty without one."""
    match = re.match(_USER_PART, address)
    return match[1] if match and ":" in match[1] else ""


def looks_like_address(path: str) -> bool:
    """Whether a path as typed looks like an address with a password: it would become a name."""
    return bool(_user_part(path) or re.search(_ADDRESS_SETTING, path))


def remember_typed_credentials(address: str) -> None:
    """Redact from now on what may be a password in an address as typed: of an address that cannot
    be parsed, messages repeat parts."""
    for text in typed_credentials(address):
        for form in {text, unquote(text), re.sub(r"\\(.)", r"\1", text)}:
            remember_credential(form)


def has_credentials() -> bool:
    """Whether any credential is known."""
    return bool(_credentials)


def credential_spans(text: str) -> list[tuple[int, int]]:
    """The spans at which a text contains a known credential as a separate word. Credentials that
    could be ordinary words (letters of one case) are ignored."""
    with _lock:
        candidates = [*_credentials]
    candidates = [
        credential
        for credential in candidates
        if len(credential) >= _MIN_UNAMBIGUOUS_LENGTH
        and not (
            credential.isalpha()
            and credential in (credential.lower(), credential.upper(), credential.title())
        )
    ]
    matches = (
        re.search(rf"(?<!\w){re.escape(credential)}(?!\w)", text)
        for credential in candidates
        if credential in text
    )
    return [credential.span() for credential in matches if credential is not None]


@functools.lru_cache(maxsize=1)
def _credential_pattern() -> re.Pattern[str] | None:
    # Longest first, so that a credential that contains another one is replaced completely.
    texts = sorted(_credentials, key=len, reverse=True)
    return (
        re.compile(
            "|".join(
                re.escape(t)
                if len(t) >= _MIN_UNAMBIGUOUS_LENGTH
                else rf"(?<=[=:'\"]){re.escape(t)}(?!\w)"
                for t in texts
            )
        )
        if texts
        else None
    )


def redact(text: str) -> str:
    """The text with each known credential replaced by as many asterisks."""
    if not _credentials or not isinstance(text, str):
        return text
    with _lock:
        pattern = _credential_pattern()
    return text if pattern is None else pattern.sub(lambda match: "*" * len(match[0]), text)
