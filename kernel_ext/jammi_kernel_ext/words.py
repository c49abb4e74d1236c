"""From a word of a line to a value: ValueError says what was expected."""


def natural(word: str) -> int:
    """A whole number from 1."""
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise ValueError("a whole number from 1")
    return int(word)


def whole(word: str) -> int:
    """A whole number from 0."""
    if not word.isascii() or not word.isdigit():
        raise ValueError("a whole number from 0")
    return int(word)


def number(word: str) -> float:
    """A number."""
    try:
        return float(word)
    except ValueError:
        raise ValueError("a number") from None


def pair(word: str) -> tuple[str, str]:
    """`key=value`."""
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise ValueError("key=value")
    return key, value
