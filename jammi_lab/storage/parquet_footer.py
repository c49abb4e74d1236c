"""Key-value metadata in the footer of a finished Parquet file, without rewriting its rows. pyarrow
sets metadata only while it writes a file.

The footer is a `FileMetaData` structure in Thrift's compact protocol. Only the list of key-value
pairs is changed; everything else keeps its bytes.
"""

from typing import NamedTuple

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
"""The length of the footer, and the magic number."""
_STOP, _PAIRS_FIELD, _LONG_LIST = 0, 5, 15
"""The end of a structure, the number of the pairs' field, and the size in a list's header that says
that the real one follows."""
_BOOLEANS, _BYTE, _VARINTS, _DOUBLE, _BINARY, _LISTS, _STRUCT = (
    (1, 2),
    3,
    (4, 5, 6),
    7,
    8,
    (9, 10),
    12,
)


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
    """The list of key-value pairs in a footer; None if there is none."""
    position, field = 0, 0
    while position < len(footer) and footer[position] != _STOP:
        field, kind, position = _field_header(footer, position, field)
        if field == _PAIRS_FIELD:
            count, _, current = _read_list_header(footer, position)
            elements = []
            for _ in range(count):
                end = _skip_struct(footer, current)
                elements.append((current, end))
                current = end
            return Pairs(position, current, elements)
        position = _skip(footer, position, kind)
    return None


def _field_header(data: bytes, position: int, field: int) -> tuple[int, int, int]:
    """The number and type of a field, and the position after its header."""
    delta, kind = data[position] >> 4, data[position] & 15
    if delta:
        return field + delta, kind, position + 1
    number, position = _read_varint(data, position + 1)
    return (number >> 1) ^ -(number & 1), kind, position


def _skip_struct(data: bytes, position: int) -> int:
    field = 0
    while data[position] != _STOP:
        field, kind, position = _field_header(data, position, field)
        position = _skip(data, position, kind)
    return position + 1


def _skip(data: bytes, position: int, kind: int) -> int:
    """The position after a value that is a field."""
    if kind in _BOOLEANS:  # the value is the type
        return position
    return _skip_element(data, position, kind)


def _skip_element(data: bytes, position: int, kind: int) -> int:
    """The position after a value."""
    if kind in _BOOLEANS or kind == _BYTE:
        return position + 1
    if kind in _VARINTS:
        return _read_varint(data, position)[1]
    if kind == _DOUBLE:
        return position + 8
    if kind == _BINARY:
        length, position = _read_varint(data, position)
        return position + length
    if kind in _LISTS:
        count, kind, position = _read_list_header(data, position)
        for _ in range(count):
            position = _skip_element(data, position, kind)
        return position
    if kind == _STRUCT:
        return _skip_struct(data, position)
    raise ValueError(f"unknown type {kind} in a Parquet footer")  # no Parquet structure has a map


def _list_header(count: int) -> bytes:
    if count < _LONG_LIST:
        return bytes([count << 4 | _STRUCT])
    return bytes([_LONG_LIST << 4 | _STRUCT]) + _varint(count)


def _read_list_header(data: bytes, position: int) -> tuple[int, int, int]:
    """The number and type of a list's elements, and the position of the first."""
    count, kind = data[position] >> 4, data[position] & 15
    if count == _LONG_LIST:
        count, position = _read_varint(data, position + 1)
        return count, kind, position
    return count, kind, position + 1


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
