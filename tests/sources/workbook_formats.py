"""Small workbooks in the formats for which no writer is installed: .xls (BIFF8 in a compound file)
and .ods. A cell is a number, a text, a truth value, a date, or None.

Formats: [MS-XLS], [MS-CFB], OpenDocument 1.2.
"""

import datetime as dt
import struct
import zipfile

_EPOCH = dt.date(1899, 12, 30)


def write_xls(path, rows):
    def record(number, data=b""):
        return struct.pack("<HH", number, len(data)) + data

    def begin(kind):
        return record(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0x0DBB, 0x07CC, 0, 0x0600))

    sheet = [begin(0x0010)]
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            place = struct.pack("<HHH", row, column, isinstance(cell, dt.date))
            if isinstance(cell, bool):
                sheet.append(record(0x0205, place + bytes([cell, 0])))
            elif isinstance(cell, str):
                length = struct.pack("<HB", len(cell), 1)
                sheet.append(record(0x0204, place + length + cell.encode("utf-16-le")))
            elif cell is not None:
                number = float((cell - _EPOCH).days if isinstance(cell, dt.date) else cell)
                sheet.append(record(0x0203, place + struct.pack("<d", number)))
    formats = [record(0x00E0, struct.pack("<HHH14x", 0, number, 0)) for number in (0, 14)]
    start = begin(0x0005) + b"".join(formats)
    name = b"\x06\x00Sheet1"
    offset = len(start) + 4 + 6 + len(name) + 4
    start += record(0x0085, struct.pack("<IH", offset, 0) + name) + record(0x000A)
    stream = start + b"".join(sheet) + record(0x000A)
    path.write_bytes(_compound_file("Workbook", stream))


def _compound_file(name, stream):
    """A compound file with one stream, which fills whole sectors: one of the allocation table, one
    of the directory, then the stream, of at least 4096 bytes."""
    stream = stream.ljust(max(4096, -(-len(stream) // 512) * 512), b"\0")
    sectors = len(stream) // 512
    end, free = 0xFFFFFFFE, 0xFFFFFFFF
    chain = [0xFFFFFFFD, end, *range(3, sectors + 2), end]
    table = struct.pack("<128I", *chain, *[free] * (128 - len(chain)))

    def entry(name, kind, child, start, size):
        text = f"{name}\0".encode("utf-16-le")
        place = struct.pack("<HBBIII", len(text), kind, 1, free, free, child)
        return text.ljust(64, b"\0") + place + bytes(36) + struct.pack("<IQ", start, size)

    folder = entry("Root Entry", 5, 1, end, 0) + entry(name, 2, free, 2, len(stream))
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16)
    header += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<9I", 0, 1, 1, 0, 4096, end, 0, end, 0)
    header += struct.pack("<109I", 0, *[free] * 108)
    return header + table + folder.ljust(512, b"\0") + stream


def write_ods(path, rows):
    def cell_of(value):
        match value:
            case bool():
                attributes = f'boolean" office:boolean-value="{str(value).lower()}'
            case str():
                return (
                    '<table:table-cell office:value-type="string"><text:p>'
                    f"{value}</text:p></table:table-cell>"
                )
            case dt.date():
                attributes = f'date" office:date-value="{value}'
            case dt.timedelta():
                hours, minutes = divmod(int(abs(value).total_seconds()) // 60, 60)
                sign = "-" if value < dt.timedelta() else ""
                attributes = f'time" office:time-value="{sign}PT{hours:02}H{minutes:02}M00S'
            case None:
                return "<table:table-cell/>"
            case _:
                attributes = f'float" office:value="{value!r}'
        return f'<table:table-cell office:value-type="{attributes}"/>'

    lines = "".join(
        f"<table:table-row>{''.join(map(cell_of, row))}</table:table-row>" for row in rows
    )
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>"
            f'<table:table table:name="Sheet1">{lines}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
        manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
        entries = f'<manifest:manifest xmlns:manifest="{manifest}"/>'
        book.writestr("META-INF/manifest.xml", entries)


WRITERS = {"xls": write_xls, "ods": write_ods}
