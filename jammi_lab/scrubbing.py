"""The last line against credentials in what people see: the ones that this process has used are struck out of messages.

They are kept out at the root: never stored, never part of a statement. This only catches what a library says in its own words.
"""

import functools
import re
import threading
from collections import OrderedDict
from urllib.parse import quote, quote_plus

_MOST = 256
_SHORT = 6
_known: OrderedDict[str, None] = OrderedDict()
_lock = threading.Lock()


def remember(credential: str) -> None:
    """Strike this text out from now on, also in the forms that it has inside a URL.

    A very short one could be any word; it is struck out only where a value is written: after `=`, `:` or a quote.
    """
    if not credential.strip():
        return
    with _lock:
        for form in {credential, quote(credential, safe=""), quote_plus(credential)}:
            _known[form] = None
            _known.move_to_end(form)
        while len(_known) > _MOST:
            _known.popitem(last=False)
        _pattern.cache_clear()


def anything() -> bool:
    """Whether any credential was remembered."""
    return bool(_known)


def spans(text: str) -> list[tuple[int, int]]:
    """Where a text holds a credential that was remembered as a word of its own; one that could be any word (letters of one case) is left out."""
    with _lock:
        known = [*_known]
    known = [each for each in known if len(each) >= _SHORT and not (each.isalpha() and each in (each.lower(), each.upper(), each.title()))]
    found = (re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text) for each in known if each in text)
    return [each.span() for each in found if each is not None]


@functools.lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str] | None:
    texts = sorted(_known, key=len, reverse=True)
    return re.compile("|".join(re.escape(t) if len(t) >= _SHORT else rf"(?<=[=:'\"]){re.escape(t)}(?!\w)" for t in texts)) if texts else None


def scrubbed(text: str) -> str:
    """The text with stars in the place of any credential that was remembered; as long as before."""
    if not _known or not isinstance(text, str):
        return text
    with _lock:
        pattern = _pattern()
    return text if pattern is None else pattern.sub(lambda found: "*" * len(found[0]), text)
