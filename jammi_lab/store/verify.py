"""Verification of a result table: recompute what its manifest attests, and compare."""

from collections.abc import Callable, Sequence

from jammi_lab.core.anchors import Anchor
from jammi_lab.core.errors import TableDamaged, too_many_open_files
from jammi_lab.core.manifest import is_sealed
from jammi_lab.core.records import Progress, TableRecord, TableStatus
from jammi_lab.core.verdicts import (
    Damaged,
    Match,
    MatchWithUnpinnedInputs,
    Mismatch,
    MissingBytes,
    MissingManifest,
    Verification,
)
from jammi_lab.storage.digests import sha256_file
from jammi_lab.store import manifests
from jammi_lab.store.result_files import ResultFiles
from jammi_lab.store.storage_errors import reason_of


def verify(
    results: ResultFiles,
    record: TableRecord,
    expected: str | None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Check the manifest, the bytes, their digest, the definition and unpinned inputs, in that
    order. The first finding is returned. A rejected table has no manifest; its row attests it.

    An edited manifest, whose seal is broken, is Damaged, as in verdicts; another whole manifest is
    a Mismatch. `expected` is a definition hash. `on_progress` receives the number of bytes read.
    Only data are verified, never an index. Raises ManifestUnsupported for a manifest of a later
    release, TableDamaged when the bytes or the manifest cannot be read.
    """

    def report_bytes(bytes_read: int) -> None:
        assert on_progress is not None, "else it is not passed on"
        on_progress(Progress(stage="verify", done=bytes_read, total=record.bytes, unit="bytes"))

    on_bytes = None if on_progress is None else report_bytes

    if record.definition_hash is None:
        return MissingManifest()
    try:
        results.parquet(record)
    except TableDamaged:  # a link in its place leads elsewhere
        return MissingBytes()
    if record.status is TableStatus.REJECTED:  # which has no manifest, but a digest in its row
        damage = _compare_bytes(results, record, record.digest, on_bytes)
        return damage or _compare_definition(record.definition_hash, record.anchors, expected)
    body = read_manifest_bytes(results, record)
    manifest = manifests.parse(body)
    if manifest is None or body is None:
        if body is not None and manifests.is_manifest(body):  # edited so that it says nothing
            return Damaged(found=manifests.digest(body), what="manifest")
        return MissingManifest()
    if record.manifest_digest is not None and manifests.digest(body) != record.manifest_digest:
        found = manifests.digest(body)
        if manifest.seal and not is_sealed(body):
            return Damaged(found=found, what="manifest")
        # a whole manifest of another state, or one of the first release, which has no seal
        return Mismatch(record.manifest_digest, found, "manifest")
    damage = _compare_bytes(results, record, manifest.artifact.digest, on_bytes)
    if damage is not None:
        return damage
    if manifest.recomputed_hash() != manifest.definition_hash:
        return Mismatch(manifest.definition_hash, manifest.recomputed_hash(), "definition")
    # Last, so that damage is reported before a definition that was merely expected otherwise.
    return _compare_definition(manifest.definition_hash, manifest.anchors, expected)


def read_manifest_bytes(results: ResultFiles, record: TableRecord) -> bytes | None:
    """The manifest as it lies there; None when there is none. TableDamaged if unreadable."""
    try:
        return manifests.read(results.parquet(record))
    except OSError as error:
        if exhausted := too_many_open_files(error, f"The manifest of {record.table_name!r}"):
            raise exhausted from error
        raise TableDamaged(
            f"The manifest of {record.table_name!r} cannot be read: {reason_of(error)}.",
            table=record.table_name,
            hint="Check the read permission on the workspace's folder.",
        ) from error


def _compare_bytes(
    results: ResultFiles,
    record: TableRecord,
    expected_digest: str | None,
    on_bytes: Callable[[int], None] | None,
) -> MissingBytes | Mismatch | None:
    """How the bytes differ from a digest; None when they do not. TableDamaged."""
    path = results.parquet(record)
    try:
        digest = sha256_file(path, on_bytes)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return MissingBytes()
    except OSError as error:
        if exhausted := too_many_open_files(error, f"The file of {record.table_name!r}"):
            raise exhausted from error
        raise TableDamaged(
            f"The bytes of {record.table_name!r} cannot be read: {error.strerror}.",
            table=record.table_name,
        ) from error
    return None if digest == expected_digest else Mismatch(expected_digest or "", digest, "bytes")


def _compare_definition(
    definition: str, anchors: Sequence[Anchor], expected: str | None
) -> Verification:
    if expected is not None and expected != definition:
        return Mismatch(expected, definition, "definition")
    unpinned = [a for a in anchors if not a.pinned]
    return MatchWithUnpinnedInputs(unpinned) if unpinned else Match()
