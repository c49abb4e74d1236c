"""The manifest: the attestation written beside each Parquet file."""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from jammi_lab.core.anchors import Anchor, Count, FileState
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import HASH_SCHEME
from jammi_lab.core.recipes import hashed_fields
from jammi_lab.core.value import Value

MANIFEST_VERSION = 1
_SEAL_PATTERN = re.compile(rb'\n "seal": "([0-9a-f]{64})"')
"""The seal in the text of a manifest. Only keys of the manifest itself are indented by one blank,
and no JSON string can begin a line, so the match is unambiguous."""
_ABSENT_FIELDS = (
    b'\n "increment": null,',
    b'\n "input_files": [],',
    b'\n "partial_sums": "",',
)
"""Fields that are left out where they say nothing: manifests without them keep their bytes. None of
them is the last key, so a comma follows."""
_Number = Annotated[int, msgspec.Meta(ge=1, lt=1 << 62)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1 << 62)]
_EMPTY_SEAL = b'\n "seal": ""'


class Artifact(Value, frozen=True):
    """The digest of the whole Parquet file."""

    digest: str
    """As hex digits."""
    algorithm: str = "sha256"
    """The hash function."""


class Leaf(Value, frozen=True):
    """The digest of one column chunk: the bytes [offset, offset + length) of the file."""

    column: str
    """Name of the top-level column."""
    row_group: Count
    """Index of the row group, from 0."""
    offset: Count
    """Offset of the first byte."""
    length: Count
    """Number of bytes."""
    digest: str
    """SHA-256 of those bytes."""


class ManifestColumn(Value, frozen=True):
    """A column of a result table."""

    name: str
    """Its name."""
    type: str
    """Its SQL type."""
    digest: str = ""
    """Digest over its leaves, in row-group order."""


class InputFiles(Value, frozen=True):
    """The files of an input that is a folder or glob, as they were read."""

    source: str
    """Name of the source."""
    columns: str
    """Digest over the names and types of all columns, in their order."""
    files: dict[str, FileState]
    """The files by path relative to the source, in the order of their rows."""


class Increment(Value, frozen=True):
    """How a table was computed from an earlier one and new rows of an input."""

    rule: str
    """How the rows were merged: rows in order, rows, distinct, group by."""
    base: str
    """Physical name of the earlier table."""
    delta: list[str]
    """The new files, relative to their source; of a table one clause about its new rows:
    `1,000 rows added after version 12`."""

    @property
    def summary(self) -> str:
        """`b3.parquet merged into papers__sql__… (rule: group by)`."""
        count = len(self.delta)
        added = self.delta[0] if count == 1 else f"{count:,} new files"
        return f"{added} merged into {self.base} (rule: {self.rule})"

    def __str__(self) -> str:
        return f"computed by an increment: {self.summary}"


class Manifest(Value, frozen=True, kw_only=True):
    """What a result table is, what it was built from, by which run and when."""

    _volatile_fields = ("produced_by", "produced_at", "table_name", "seconds", "seal")

    artifact: Artifact
    """The whole file."""
    leaves: list[Leaf]
    """The digests of its column chunks."""
    schema_digest: str
    """Digest over column names and types."""
    definition_hash: str
    """Digest over descriptor and environment."""
    descriptor: dict[str, Any]
    """What was computed, verbatim."""
    environment: dict[str, Any]
    """What else shapes the output, verbatim."""
    anchors: list[Anchor]
    """The states of its inputs."""
    row_count: Count
    """Number of rows."""
    produced_by: str
    """Id of the run that built it."""
    produced_at: str
    """When it was built, RFC 3339."""
    engine_version: str
    """Release of jammi_lab; not part of the definition."""
    table_name: str
    """Physical name."""
    recipe: str
    """The recipe it was first built for."""
    version: _Number
    """The version it was first built as."""
    kind: str
    """Kind of table."""
    columns: list[ManifestColumn]
    """Names, SQL types and digests of its columns."""
    tenant: str | None = None
    """The owning tenant; None when shared."""
    source_id: str | None = None
    """The source of its rows; None for several."""
    model_id: str | None = None
    """The encoder, if any."""
    derived_from: str | None = None
    """The result table it was read from, if there is exactly one."""
    key: list[str] = []
    """The key columns."""
    dimensions: _Number | None = None
    """Dimension of its vectors."""
    order_sensitive: bool = False
    """Whether the rows depend on the row order of the inputs."""
    seconds: _Seconds = 0.0
    """Duration of the run; not part of the definition."""
    counts: dict[str, Count] = {}
    """Counts of input rows that do not contribute, such as members without a vector or edges
    without an end. For an embedding: its `Reuse`."""
    input_files: list[InputFiles] = []
    """The files of inputs that are folders or globs of Parquet files."""
    increment: Increment | None = None
    """The increment by which it was computed; None for a full computation."""
    partial_sums: str = ""
    """SHA-256 of the file beside the table by which an increment continues its sums of
    floating-point numbers; empty without such a file."""
    hash_scheme: str = HASH_SCHEME
    """Scheme of the definition hash."""
    writer: str = ""
    """The writer of the Parquet file. Column digests are comparable only between files of one
    writer."""
    manifest_version: int = MANIFEST_VERSION
    """Version of this format."""
    seal: str = ""
    """SHA-256 of the manifest's text with an empty seal."""

    def encode(self) -> bytes:
        """The stored JSON. Equal manifests give equal bytes."""
        # `_SEAL_PATTERN` relies on the indentation of 1.
        text = msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"
        for absent in _ABSENT_FIELDS:
            text = text.replace(absent, b"", 1)
        return text

    def encode_sealed(self) -> bytes:
        """The stored JSON, with its seal."""
        text = (self.with_values(seal="") if self.seal else self).encode()
        return text.replace(
            _EMPTY_SEAL, _EMPTY_SEAL[:-1] + hashlib.sha256(text).hexdigest().encode() + b'"', 1
        )

    def recomputed_hash(self) -> str:
        """The definition hash computed from the recorded descriptor and environment."""
        return digest_of(
            {
                "scheme": self.hash_scheme,
                "descriptor": hashed_fields(self.descriptor),
                "environment": self.environment,
            }
        )


def equal_row_groups(new: Sequence[Leaf], old: Sequence[Leaf], columns: Sequence[str]) -> int:
    """The number of row groups at the beginning of two files that are equal in all columns, by
    their digests."""
    groups = [_digests_by_row_group(leaves, columns) for leaves in (new, old)]
    count = 0
    while count in groups[0] and groups[0][count] == groups[1].get(count):
        count += 1
    return count


def _digests_by_row_group(leaves: Sequence[Leaf], columns: Sequence[str]) -> dict[int, list[str]]:
    names = set(columns)
    groups: dict[int, list[tuple[str, int, str]]] = {}
    for leaf in leaves:
        if leaf.column in names:
            groups.setdefault(leaf.row_group, []).append((leaf.column, leaf.offset, leaf.digest))
    # Offsets differ between files; they only order the several leaves of a nested column.
    return {
        group: [f"{column}:{digest}" for column, _, digest in sorted(digests)]
        for group, digests in groups.items()
    }


def is_sealed(body: bytes) -> bool:
    """Whether the bytes of a manifest are unchanged since they were sealed. A seal is a checksum,
    not a signature: whoever edits the manifest can seal it again."""
    match = _SEAL_PATTERN.search(body)
    return (
        match is not None
        and hashlib.sha256(body[: match.start(1)] + body[match.end(1) :]).hexdigest().encode()
        == match[1]
    )
