"""The Porter2 stemmer for English (Snowball's `english`)."""

import functools
import re

_VOWELS = "aeiouy"
_EXCEPTIONS = {
    "skis": "ski",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "idly": "idl",
    "gently": "gentl",
    "ugly": "ugli",
    "early": "earli",
    "only": "onli",
    "singly": "singl",
    **{word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")},
}
_FINAL_AFTER_PLURAL = frozenset(
    "inning outing canning herring earring proceed exceed succeed".split()
)
"""Words that are stems once step 1a is done."""
_REGION_PREFIX = re.compile("gener|commun|arsen")
_REGION = re.compile("[aeiouy][^aeiouy]")
_SHORT_END = re.compile("(?:[^aeiouy][aeiouy][^aeiouywxY]|^[aeiouy][^aeiouy])$")
_DOUBLES = ("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")
_SUFFIXES_2 = {
    "ization": "ize",
    "ational": "ate",
    "fulness": "ful",
    "ousness": "ous",
    "iveness": "ive",
    "tional": "tion",
    "biliti": "ble",
    "lessli": "less",
    "entli": "ent",
    "ation": "ate",
    "alism": "al",
    "aliti": "al",
    "ousli": "ous",
    "iviti": "ive",
    "fulli": "ful",
    "enci": "ence",
    "anci": "ance",
    "abli": "able",
    "izer": "ize",
    "ator": "ate",
    "alli": "al",
    "bli": "ble",
    "ogi": "og",
    "li": "",
}
_SUFFIXES_3 = {
    "ational": "ate",
    "tional": "tion",
    "alize": "al",
    "icate": "ic",
    "iciti": "ic",
    "ative": "",
    "ical": "ic",
    "ness": "",
    "ful": "",
}
_SUFFIXES_4 = "ement ance ence able ible ment ant ent ism ate iti ous ive ize ion al er ic".split()


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of a word in lower case."""
    if len(word) <= 2:
        return word
    if (exception := _EXCEPTIONS.get(word)) is not None:
        return exception
    word = re.sub("^y|(?<=[aeiouy])y", "Y", word.lstrip("'") or word)
    prefix = _REGION_PREFIX.match(word)
    first = prefix.end() if prefix else _region_start(word, 0)
    second = _region_start(word, first)
    word = _strip_plural(_strip_possessive(word))
    if word not in _FINAL_AFTER_PLURAL:
        word = _strip_past(word, first)
        if len(word) > 2 and word[-1] in "yY" and word[-2] not in _VOWELS:
            word = word[:-1] + "i"
        word = _replace_suffix(word, first)
        word = _replace_second_suffix(word, first, second)
        word = _strip_last_suffix(word, second)
        word = _strip_final_letter(word, first, second)
    return word.lower()


def _region_start(word: str, start: int) -> int:
    """Where the region after the first non-vowel that follows a vowel begins."""
    match = _REGION.search(word, start)
    return match.end() if match else len(word)


def _strip_possessive(word: str) -> str:
    for suffix in ("'s'", "'s", "'"):
        if word.endswith(suffix):
            return word[: -len(suffix)]
    return word


def _strip_plural(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if (
        word.endswith("s")
        and not word.endswith(("us", "ss"))
        and any(letter in _VOWELS for letter in word[:-2])
    ):
        return word[:-1]
    return word


def _strip_past(word: str, first: int) -> str:
    for suffix in ("eedly", "eed"):
        if word.endswith(suffix):
            start = len(word) - len(suffix)
            return word[: start + 2] if start >= first else word
    for suffix in ("ingly", "edly", "ing", "ed"):
        if word.endswith(suffix):
            stripped = word[: -len(suffix)]
            if not any(letter in _VOWELS for letter in stripped):
                return word
            if stripped.endswith(("at", "bl", "iz")):
                return stripped + "e"
            if stripped.endswith(_DOUBLES):
                return stripped[:-1]
            is_short = len(stripped) <= first and _SHORT_END.search(stripped)
            return stripped + "e" if is_short else stripped
    return word


def _replace_suffix(word: str, first: int) -> str:
    for suffix, replacement in _SUFFIXES_2.items():
        if word.endswith(suffix):
            start = len(word) - len(suffix)
            before = word[start - 1 : start]
            if (
                start < first
                or (suffix == "ogi" and before != "l")
                or (suffix == "li" and before not in tuple("cdeghkmnrt"))
            ):
                return word
            return word[:start] + replacement
    return word


def _replace_second_suffix(word: str, first: int, second: int) -> str:
    for suffix, replacement in _SUFFIXES_3.items():
        if word.endswith(suffix):
            start = len(word) - len(suffix)
            required = second if suffix == "ative" else first
            return word[:start] + replacement if start >= required else word
    return word


def _strip_last_suffix(word: str, second: int) -> str:
    for suffix in _SUFFIXES_4:
        if word.endswith(suffix):
            start = len(word) - len(suffix)
            if start < second or (suffix == "ion" and word[start - 1 : start] not in ("s", "t")):
                return word
            return word[:start]
    return word


def _strip_final_letter(word: str, first: int, second: int) -> str:
    start = len(word) - 1
    if word.endswith("e"):
        in_region = start >= second or (start >= first and not _SHORT_END.search(word[:start]))
        return word[:start] if in_region else word
    return word[:start] if word.endswith("ll") and start >= second else word
