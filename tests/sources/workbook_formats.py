"""Small workbooks in the formats for which no writer is installed: .xls (BIFF8 in a compound file),
.xlsb and .ods. A cell is a number, a text, a truth value, a date, or None.

Formats: [MS-XLS], [MS-CFB], [MS-XLSB], OpenDocument 1.2.
"""

import datetime as dt
import struct
import zipfile

_EPOCHS = {False: dt.date(1899, 12, 30), True: dt.date(1904, 1, 1)}
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def _serial(day, is_1904):
    return float((day - _EPOCHS[is_1904]).days)


def write_xls(path, rows, *, is_1904=False):
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
                number = _serial(cell, is_1904) if isinstance(cell, dt.date) else float(cell)
                sheet.append(record(0x0203, place + struct.pack("<d", number)))
    formats = [record(0x00E0, struct.pack("<HHH14x", 0, number, 0)) for number in (0, 14)]
    start = begin(0x0005) + record(0x0022, struct.pack("<H", is_1904)) + b"".join(formats)
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


def write_xlsb(path, rows, *, is_1904=False):
    def variable(number):
        low, rest = number & 0x7F, number >> 7
        return bytes([low | 0x80, *variable(rest)]) if rest else bytes([low])

    def record(number, data=b""):
        kind = bytes([number & 0x7F | 0x80, number >> 7]) if number > 0x7F else bytes([number])
        return kind + variable(len(data)) + data

    def text(value):
        return struct.pack("<I", len(value)) + value.encode("utf-16-le")

    bundle = struct.pack("<II", 0, 1) + text("rId1") + text("Sheet1")
    workbook = record(131) + record(153, struct.pack("<III", is_1904, 0, 0)) + record(143)
    workbook += record(156, bundle) + record(144) + record(132)
    formats = b"".join(record(47, struct.pack("<HH12x", 0, number)) for number in (0, 14))
    styles = record(278) + record(617, struct.pack("<I", 2)) + formats + record(618) + record(279)
    width = max(map(len, rows))
    sheet = record(129) + record(148, struct.pack("<4I", 0, len(rows) - 1, 0, width - 1))
    sheet += record(145)
    for row, cells in enumerate(rows):
        sheet += record(0, struct.pack("<I", row) + bytes(13))
        for column, cell in enumerate(cells):
            place = struct.pack("<II", column, isinstance(cell, dt.date))
            if isinstance(cell, bool):
                sheet += record(4, place + bytes([cell]))
            elif isinstance(cell, str):
                sheet += record(6, place + text(cell))
            elif cell is not None:
                number = _serial(cell, is_1904) if isinstance(cell, dt.date) else float(cell)
                sheet += record(5, place + struct.pack("<d", number))
    sheet += record(146) + record(130)

    def relations(*targets):
        parts = "".join(
            f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
            for number, (kind, target) in enumerate(targets, 1)
        )
        return f'<Relationships xmlns="{_RELATIONS}">{parts}</Relationships>'

    with zipfile.ZipFile(path, "w") as book:
        book.writestr("_rels/.rels", relations(("officeDocument", "xl/workbook.bin")))
        links = relations(("worksheet", "worksheets/sheet1.bin"), ("styles", "styles.bin"))
        book.writestr("xl/_rels/workbook.bin.rels", links)
        book.writestr("xl/workbook.bin", workbook)
        book.writestr("xl/styles.bin", styles)
        book.writestr("xl/worksheets/sheet1.bin", sheet)


def write_ods(path, rows, *, is_1904=False):
    del is_1904  # dates are written as text

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
                hours, minutes = divmod(int(value.total_seconds()) // 60, 60)
                attributes = f'time" office:time-value="PT{hours:02}H{minutes:02}M00S'
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


WRITERS = {"xls": write_xls, "xlsb": write_xlsb, "ods": write_ods}
