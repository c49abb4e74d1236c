"""Text analysis: the terms of a text.

`english`: words in lower case and without accents, but for stop words, as stems of Snowball;
`simple`: words in lower case and without accents; `exact`: what stands between spaces, without
surrounding punctuation. Runs of letters of scripts without spaces between words (Chinese, Japanese,
Thai …) become overlapping pairs of characters.
"""

import functools
import importlib.metadata
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

from jammi_lab.core.identifiers import check_choice

Analyzer = Literal["english", "simple", "exact"]
ANALYZERS: tuple[str, ...] = get_args(Analyzer)
_OUTPUT_VERSION = 3
"""Increment when a text would give other terms than before."""
_MARKS = "\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0dff\u1ab0-\u1aff"
"""Combining marks and scripts that use them within words, besides `\\w`."""
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
"""Characters of scripts without spaces between words."""
_ASCII_WORD = re.compile(r"\w+(?:'\w+)*", re.ASCII)
_CHUNK = re.compile(r"\S+")
_PUNCTUATION = ".,;:!?\"'`()[]{}<>…«»„“”‘’、。「」"
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with".split()
)


class _UnicodePatterns(NamedTuple):
    """Patterns for texts beyond ASCII."""

    word: re.Pattern[str]
    run: re.Pattern[str]
    """What within a word stands between changes of script."""
    spaceless: re.Pattern[str]
    accents: re.Pattern[str]
    """Marks over Latin and Greek letters. In other scripts a mark makes another letter."""


@functools.cache
def _unicode_patterns() -> _UnicodePatterns:
    """Compiled with the first text that needs them: this takes 4 ms, which opening a workspace does
    not pay for."""
    return _UnicodePatterns(
        word=re.compile(f"[\\w{_MARKS}{_SPACELESS}]+(?:['\u2019][\\w{_MARKS}]+)*"),
        run=re.compile(f"[{_SPACELESS}]+|[^{_SPACELESS}]+"),
        spaceless=re.compile(f"[{_SPACELESS}]"),
        accents=re.compile("(?<=[A-Za-z\u0370-\u03ff])[\u0300-\u036f]+"),
    )


@functools.cache
def analysis_version() -> str:
    """Part of the definition of a table: with another one a text may give other terms."""
    return f"{_OUTPUT_VERSION}, snowballstemmer {importlib.metadata.version('snowballstemmer')}"


def check_analyzer(analyzer: Any) -> str:
    """A validated analyzer. InvalidArgument, with the near name."""
    check_choice("analyzer", analyzer, ANALYZERS)
    return str(analyzer)


def analyze(text: str, analyzer: str) -> list[str]:
    """The terms of a text, in their order."""
    if analyzer != "exact" and text.isascii():
        return list(filter(None, map(_TERMS[analyzer], _ASCII_WORD.findall(text.lower()))))
    text = normalize(text, analyzer)
    tokens = (text[start:end] for start, end in spans(text, analyzer))
    return list(filter(None, map(_TERMS[analyzer], tokens)))


def normalize(text: str, analyzer: str) -> str:
    """The text with characters that mean the same made equal. Positions may change."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC" if analyzer == "exact" else "NFKC", text)
    # DuckDB and Parquet hold no unpaired surrogates
    return text.encode("utf-8", "replace").decode()


def spans(text: str, analyzer: str) -> Iterator[tuple[int, int]]:
    """Start and end of each token of a normalized text."""
    patterns = _unicode_patterns()
    for match in (_CHUNK if analyzer == "exact" else patterns.word).finditer(text):
        token, start = match[0], match.start()
        if analyzer == "exact":
            stripped = token.lstrip(_PUNCTUATION)
            start += len(token) - len(stripped)
            token = stripped.rstrip(_PUNCTUATION)
        if token.isascii() or not patterns.spaceless.search(token):
            if token:
                yield start, start + len(token)
            continue
        for run in patterns.run.finditer(token):
            first, last = start + run.start(), start + run.end()
            if last - first > 2 and patterns.spaceless.match(run[0]):
                yield from ((at, at + 2) for at in range(first, last - 1))
            else:
                yield first, last


def _fold_accents(word: str) -> str:
    if word.isascii():
        return word
    letters = _unicode_patterns().accents.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", letters)


def stem(word: str) -> str:
    """The stem of an English word in lower case."""
    # the module itself: its package has other stemmers where PyStemmer is installed
    from snowballstemmer.english_stemmer import EnglishStemmer

    stemmer = EnglishStemmer()  # not shared by threads, as it holds the word that it works on
    return str(stemmer.stemWord(word))


@functools.lru_cache(maxsize=1 << 16)
def _english_term(token: str) -> str:
    word = _fold_accents(token.lower()).replace("\u2019", "'")
    return "" if word in STOP_WORDS else stem(word)


_TERMS: dict[str, Callable[[str], str]] = {
    "english": _english_term,
    "simple": lambda token: _fold_accents(token.lower()),
    "exact": lambda token: token,
}
