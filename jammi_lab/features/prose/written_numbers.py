"""Numbers as people write them: with a decimal point or comma, thousands separators, per cent,
scale words and units. Each has the readings that a table may hold, and how far it was rounded."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cached_property

MIN_DIGITS = 3
"""Significant digits from which a number without unit, per cent or separator counts."""
MAX_DIGITS = 40
MAX_EXPONENT = 30
_SPACES = "\u00a0\u2009\u202f"
_PERCENT_FACTOR, _PERMILLE_FACTOR = Decimal("0.01"), Decimal("0.001")
_SCALES = {
    **dict.fromkeys(("thousand", "k", "K", "Tsd."), 3),
    **dict.fromkeys(("million", "M", "mn", "Mio."), 6),
    **dict.fromkeys(("billion", "bn", "B", "Mrd."), 9),
    **dict.fromkeys(("trillion", "tn"), 12),
}
_UNITS = (
    "ns|µs|μs|us|ms|s|sec|seconds?|min|minutes?|h|hours?|days?|bytes?|[kKMGTP]i?B|[kKMGT]?bits?/s|"
    "[kmcµn]?m|km²|m²|k?g|mg|µg|t|[kMGT]?Hz|[kMG]?Wh?|[km]?V|[km]?J|[km]?A|°C|°F|K|Pa|bar|dB|px|fps|"
    "pp|points?|rows?|tokens?|EUR|USD|GBP|CHF|€|£|[x×](?!\\s*\\d)"
)
_SPACED_GROUPS = r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![.,]?\d)"
_BARE_FRACTION = r"(?<![\w.,)\]}])\.\d+(?![.,]?\d)"  # .364
_GAP = rf"(?:[ ~]?|[{_SPACES}]{{1,6}}|\\[,; ])"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w.)\]}}%–-])[-−+])?(?P<body>{_SPACED_GROUPS}|{_BARE_FRACTION}|\d(?:(?:[.,'’{_SPACES}]|\{{,\}}|\\,)?\d)*)"
    r"(?:[eE](?P<e>[-+]?\d{1,3})(?!\w)| ?(?:×|\\times|\\cdot) ?10\^\{?(?P<power>[-−]?\d{1,3})\}?)?"
    rf"(?:{_GAP}(?P<percent>\\?%|‰|per ?cent\b|percent\b)"
    rf"|(?P<scale>[kKMB](?!\w))|{_GAP}(?P<word>thousand|million|billion|trillion|mn|bn|tn)\b"
    rf"|{_GAP}(?P<short>Tsd\.|Mio\.|Mrd\.)|(?P<unit>{_GAP}(?:{_UNITS})(?![\w'’])))?"
)
_BEFORE = re.compile(
    r"(?:[\w#§@^\\/:]|[^\W\d]-|\w[./,:'’]|[<>≤≥]=?\s*|&[lg]t;\s*|\\(?:leq?|geq?)\s*|\barXiv[: ]|"
    r"(?i:\b(?:doi|version|release|python|isbn|rfc|iso|pep|port|issue|pr|section|sec\.|table|tab\.|figure"
    r"|fig\.|eq\.|equation|chapter|ch\.|pages?|pp?\.|no\.|line|step|seed|appendix|ref\.|theorem))"
    rf"[ {_SPACES}~]*(?:\d+[-–]+)?)\Z"
)
"""What stands before a number that is a part of a word, a bound, a version or a reference."""
_AFTER = re.compile(r"\w|[/:]\w|\.\d|[-‐][^\W\d]|\\(?![%,; \\)\]]|times|cdot|pm)|\s*\\\w*width")
_DATES = re.compile(
    r"\b\d{4}-\d{1,2}(?:-\d{1,2})?\b|\b\d{1,2}([./])\d{1,2}\1(?:19|20)?\d{2}\b|\b\d{1,2}:\d{2}(?::\d{2})?\b"
    r"|\b(?:\d+\.){3,}\d+\b|\b\d{4,}(?:-\d+){2,}\b"
)
_DECIMAL_COMMA = re.compile(
    r"(?<![\d,.])(?:0|\d{1,3}(?:\.\d{3})+|\d+(?=,\d{1,2}(?!\d))),\d+(?![\d,])"
)
_DECIMAL_POINT = re.compile(
    r"(?<![\d,.])(?:0|\d{1,3}(?:,\d{3})+|\d+(?=\.\d{1,2}(?!\d)))\.\d+(?![\d.])"
)
_EXACT = Context(prec=2 * MAX_DIGITS + 200)


@dataclass(frozen=True)
class WrittenNumber:
    """A number in a text."""

    start: int
    """Where it begins in the text, with its sign."""
    end: int
    """Where it ends, with its unit."""
    text: str
    """The number as written, with its unit."""
    value: Decimal
    """What is written, without per cent and scale word."""
    decimals: int
    """Digits after the decimal mark."""
    digits: int
    """Significant digits; the last zeros of a whole number are not."""
    factors: tuple[Decimal, ...]
    """The units in which a table may hold it: 36 % is stored as 0.36 or as 36."""
    counts: bool
    """Whether it is checked without a tie."""

    @property
    def spelling(self) -> tuple[Decimal, int, tuple[Decimal, ...]]:
        """What decides which values round to it."""
        return self.value, self.decimals, self.factors

    @cached_property
    def intervals(self) -> list[tuple[Decimal, Decimal]]:
        """The values that round to it as written, half to even or half up; one for each factor."""
        half = Decimal((0, (5,), -self.decimals - 1))
        with localcontext(_EXACT):
            return [((self.value - half) * f, (self.value + half) * f) for f in self.factors]

    def is_rounded_from(self, value: Decimal) -> bool:
        """Whether a stored value rounds to it."""
        return any(low <= value <= high for low, high in self.intervals)

    def write_value(self, value: Decimal, former: Decimal | None = None) -> str:
        """Another value, rounded and written like this number. `former`: the value that it was
        written for, which tells in which unit the table holds it."""
        known = value if former is None else former
        magnitude = self.value.adjusted()
        factor = min(self.factors, key=lambda each: abs((known / each).adjusted() - magnitude))
        match = _NUMBER.search(self.text)
        assert match is not None
        with localcontext(_EXACT):
            unit = Decimal((0, (1,), -self.decimals))
            rounded = (value / factor).quantize(unit, ROUND_HALF_EVEN)
        whole, _, fraction = f"{abs(rounded):f}".partition(".")
        body = match["body"]
        mark = body[-self.decimals - 1] if self.decimals else ""
        separator = re.search(r"\D+", body[: len(body) - self.decimals - len(mark)])
        if separator is not None:
            first = len(whole) % 3 or 3
            groups = [whole[:first], *(whole[i : i + 3] for i in range(first, len(whole), 3))]
            whole = separator[0].join(groups)
        if whole == "0" and self.decimals and body.startswith(mark):
            whole = ""
        sign = (match["sign"] or "").replace("+", "")
        minus = (sign or "-") if rounded < 0 else "+" * (match["sign"] == "+")
        return minus + whole + mark + fraction + self.text[match.end("body") :]


def decimal_mark(text: str) -> str:
    """The decimal mark of a text: a comma where most numbers that show it have one."""
    commas, points = len(_DECIMAL_COMMA.findall(text)), len(_DECIMAL_POINT.findall(text))
    return "," if commas > points else "."


def find_numbers(text: str, mark: str = ".") -> Iterator[WrittenNumber]:
    """The numbers of a text whose code and links are blank. `mark`: its decimal mark, which tells
    1.234 from 1,234. Parts of words, dates, versions, bounds and references are left out."""
    text = _DATES.sub(lambda match: _blank_date(match, mark), text)
    for match in _NUMBER.finditer(text):
        before = text[max(0, match.start() - 20) : match.start()]
        if _BEFORE.search(before) is None and not _AFTER.match(text, match.end()):
            number = parse_match(match, mark)
            if number is not None:
                yield number


def parse_number(text: str, mark: str = ".") -> WrittenNumber | None:
    """The number that a whole text is; None when it is anything else."""
    match = _NUMBER.fullmatch(text.strip())
    return None if match is None else parse_match(match, mark)


def last_number(text: str, mark: str = ".") -> WrittenNumber | None:
    """The number with which a text ends."""
    ends = [match for match in _NUMBER.finditer(text) if match.end() == len(text)]
    if not ends or text[: ends[-1].start()][-1:].isalnum():  # a part of a word
        return None
    return parse_match(ends[-1], mark)


def _blank_date(match: re.Match[str], mark: str) -> str:
    is_grouped = mark == "," and re.fullmatch(r"\d{1,3}(?:\.\d{3})+", match[0])
    return match[0] if is_grouped else " " * len(match[0])


def parse_match(match: re.Match[str], mark: str) -> WrittenNumber | None:
    """The number of a match; None when its separators are not those of a number."""
    parts = _split_separators(match["body"], mark)
    if parts is None:
        return None
    whole, fraction, has_groups = parts
    digits = (whole + fraction).lstrip("0")
    exponent = int((match["e"] or match["power"] or "0").replace("−", "-"))
    if len(digits) > MAX_DIGITS or abs(exponent) > MAX_EXPONENT:
        return None
    negative = match["sign"] in ("-", "−")
    value = Decimal((int(negative), tuple(map(int, whole + fraction)), -len(fraction)))
    scale = _SCALES.get(match["scale"] or match["word"] or match["short"] or "", 0) + exponent
    factors: tuple[Decimal, ...] = (Decimal((0, (1,), scale)),)
    if scale and not exponent:
        factors += (Decimal(1),)
    if match["percent"]:
        small = _PERMILLE_FACTOR if match["percent"] == "‰" else _PERCENT_FACTOR
        factors = (small, Decimal(1))
    significant = digits if fraction else digits.rstrip("0")
    has_mark = bool(match["percent"] or match["unit"] or scale or has_groups)
    is_year = len(whole) == 4 and not fraction and 1900 <= int(whole) < 2100
    return WrittenNumber(
        match.start(),
        match.end(),
        match[0],
        value,
        len(fraction),
        len(significant),
        factors,
        bool(digits) and (has_mark or (len(significant) >= MIN_DIGITS and not is_year)),
    )


def _split_separators(body: str, mark: str) -> tuple[str, str, bool] | None:
    """The digits before and after the decimal mark, and whether there are thousands separators."""
    body = body.replace("{,}", ",")
    plain = re.sub(rf"['’{_SPACES}]|\\,", " ", body)
    marks = [each for each in ".," if each in plain]
    decimal = ""
    if len(marks) == 2:
        decimal = max(marks, key=plain.rindex)
    elif marks and plain.count(marks[0]) == 1:
        whole, _, fraction = plain.partition(marks[0])
        is_group = len(fraction) == 3 and 0 < len(whole) <= 3 and not whole.startswith("0")
        decimal = marks[0] if marks[0] == mark or not is_group else ""
    whole, _, fraction = plain.rpartition(decimal) if decimal else (plain, "", "")
    groups = re.split(r"[ .,]", whole)
    has_groups = len(groups) > 1
    if (not fraction.isdigit() and decimal) or len(set(re.findall(r"[ .,]", whole))) > 1:
        return None
    if has_groups and (len(groups[0]) > 3 or any(len(group) != 3 for group in groups[1:])):
        return None
    return "".join(groups), fraction, has_groups
