"""Key-value metadata in the footer of a finished Parquet file, without rewriting its rows. pyarrow
sets metadata only while it writes a file.

The footer is a `FileMetaData` structure in Thrift's compact protocol. Only the list of key-value
pairs is changed; everything else keeps its bytes.
"""

from typing import NamedTuple

from jammi_lab.storage.thrift import (
    parse_field_header,
    parse_list_header,
    parse_struct,
    parse_value,
)

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
"""The length of the footer, and the magic number."""
_STOP, _PAIRS_FIELD, _LONG_LIST, _STRUCT = 0, 5, 15, 12
"""The end of a structure, the number of the pairs' field, the size in a list's header that says
that the real one follows, and the type of a structure."""


class Pairs(NamedTuple):
    """The list of key-value pairs in a footer."""

    start: int
    """The position of its header."""
    end: int
    """The position after it."""
    elements: list[tuple[int, int]]
    """The beginning and end of each pair."""


def footer_start(tail: bytes, size: int) -> int | None:
    """The position of the footer in a file of this size, given its last 8 bytes; None if it is no
    Parquet file."""
    if len(tail) != _TAIL_BYTES or tail[4:] != _MAGIC:
        return None
    start = size - _TAIL_BYTES - int.from_bytes(tail[:4], "little")
    return start if start >= len(_MAGIC) else None


def with_pair(footer: bytes, key: bytes, value: bytes) -> bytes | None:
    """The footer with one more pair at the end; None if it has no list of pairs."""
    pairs = find_pairs(footer)
    if pairs is None:
        return None
    pair = _text_field(key) + _text_field(value) + b"\0"  # both are texts in consecutive fields
    return _with_elements(footer, pairs, [*_elements(footer, pairs), pair])


def without_last_pair(footer: bytes, key: bytes) -> bytes:
    """The footer without its last pair, if that has the key."""
    pairs = find_pairs(footer)
    elements = [] if pairs is None else _elements(footer, pairs)
    if pairs is None or not elements or not elements[-1].startswith(_text_field(key)):
        return footer
    return _with_elements(footer, pairs, elements[:-1])


def _elements(footer: bytes, pairs: Pairs) -> list[bytes]:
    return [footer[start:end] for start, end in pairs.elements]


def _with_elements(footer: bytes, pairs: Pairs, elements: list[bytes]) -> bytes:
    body = _list_header(len(elements)) + b"".join(elements)
    return footer[: pairs.start] + body + footer[pairs.end :]


def _text_field(text: bytes) -> bytes:
    return b"\x18" + _varint(len(text)) + text


def find_pairs(footer: bytes) -> Pairs | None:
    """The list of key-value pairs in a footer; None if there is none. Raises IndexError,
    ValueError for bytes that are no footer."""
    position, field = 0, 0
    while position < len(footer) and footer[position] != _STOP:
        field, kind, position = parse_field_header(footer, position, field)
        if field == _PAIRS_FIELD:
            count, _, current = parse_list_header(footer, position)
            elements = []
            for _ in range(count):
                end = parse_struct(footer, current)[1]
                elements.append((current, end))
                current = end
            return Pairs(position, current, elements)
        position = parse_value(footer, position, kind)[1]
    return None


def _list_header(count: int) -> bytes:
    if count < _LONG_LIST:
        return bytes([count << 4 | _STRUCT])
    return bytes([_LONG_LIST << 4 | _STRUCT]) + _varint(count)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
