"""The part of Thrift's compact protocol that Parquet uses in page headers and footers."""

from typing import Any


def parse_struct(raw: bytes, position: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by number, and the position after it. Raises IndexError when the bytes
    end too early; ValueError."""
    fields, number = dict[int, Any](), 0
    while raw[position]:
        number, kind, position = parse_field_header(raw, position, number)
        fields[number], position = parse_value(raw, position, kind)
    return fields, position + 1


def parse_field_header(raw: bytes, position: int, previous: int) -> tuple[int, int, int]:
    """The number and type of a field, given the number of the field before it, and the position
    after its header. Raises as `parse_struct`."""
    step, kind = raw[position] >> 4, raw[position] & 15
    if step:
        return previous + step, kind, position + 1
    number, position = _parse_zigzag(raw, position + 1)
    return number, kind, position


def parse_list_header(raw: bytes, position: int) -> tuple[int, int, int]:
    """The number and type of a list's elements, and the position of the first. Raises as
    `parse_struct`."""
    count, kind = raw[position] >> 4, raw[position] & 15
    if count < 15:
        return count, kind, position + 1
    count, position = _parse_varint(raw, position + 1)
    return count, kind, position


def parse_value(raw: bytes, position: int, kind: int) -> tuple[Any, int]:
    """The value of a field of this type, and the position after it; of texts and numbers with a
    fraction the bytes. Raises as `parse_struct`."""
    match kind:
        case 1 | 2:
            return kind == 1, position
        case 3:
            return raw[position], position + 1
        case 4 | 5 | 6:
            return _parse_zigzag(raw, position)
        case 7:
            return raw[position : position + 8], position + 8
        case 8:
            length, position = _parse_varint(raw, position)
            return raw[position : position + length], position + length
        case 9 | 10:
            return _parse_list(raw, position)
        case 12:
            return parse_struct(raw, position)
        case _:
            raise ValueError(kind)


def _parse_list(raw: bytes, position: int) -> tuple[list[Any], int]:
    count, kind, position = parse_list_header(raw, position)
    if count > len(raw) - position:  # each element takes at least one byte
        raise IndexError(count)
    values = list[Any]()
    for _ in range(count):
        # In a list a truth value is a byte of its own.
        value, position = parse_value(raw, position, kind if kind > 2 else 3)
        values.append(value)
    return values, position


def _parse_varint(raw: bytes, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte, position = raw[position], position + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError(shift)


def _parse_zigzag(raw: bytes, position: int) -> tuple[int, int]:
    value, position = _parse_varint(raw, position)
    return (value >> 1) ^ -(value & 1), position
