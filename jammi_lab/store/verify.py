"""Verification of a result table: recompute what its manifest attests, and compare."""

from collections.abc import Callable

from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.manifest import is_sealed
from jammi_lab.core.records import Progress, TableRecord
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
    order. The first finding is returned.

    An edited manifest, whose seal is broken, is Damaged, as in verdicts; another whole manifest is
    a Mismatch. `expected` is a definition hash. `on_progress` receives the number of bytes read.
    Only data are verified, never an index. Raises ManifestUnsupported for a manifest of a later
    release, TableDamaged when the bytes or the manifest cannot be read.
    """
    path = results.parquet(record)

    def report_bytes(bytes_read: int) -> None:
        if on_progress is not None:
            on_progress(Progress(stage="verify", done=bytes_read, total=record.bytes, unit="bytes"))

    if record.definition_hash is None:
        return MissingManifest()
    try:
        body = manifests.read(path)
    except OSError as error:
        hint = "Check who may read the workspace's folder."
        raise TableDamaged(
            f"The manifest of {record.table_name!r} cannot be read: {reason_of(error)}.",
            table=record.table_name,
            hint=hint,
        ) from error
    manifest = manifests.parse(body)
    if manifest is None or body is None:
        return MissingManifest()
    if record.manifest_digest is not None and manifests.digest(body) != record.manifest_digest:
        found = manifests.digest(body)
        if manifest.seal and not is_sealed(body):
            return Damaged(found=found, what="manifest")
        # a whole manifest of another state, or one of the first release, which has no seal
        return Mismatch(record.manifest_digest, found, "manifest")
    try:
        if results.stat(path) is None:
            return MissingBytes()
        digest = sha256_file(path, None if on_progress is None else report_bytes)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return MissingBytes()
    except OSError as error:
        raise TableDamaged(
            f"The bytes of {record.table_name!r} cannot be read: {error.strerror}.",
            table=record.table_name,
        ) from error
    if digest != manifest.artifact.digest:
        return Mismatch(manifest.artifact.digest, digest, "bytes")
    if manifest.recomputed_hash() != manifest.definition_hash:
        return Mismatch(manifest.definition_hash, manifest.recomputed_hash(), "definition")
    # Last, so that damage is reported before a definition that was merely expected otherwise.
    if expected is not None and expected != manifest.definition_hash:
        return Mismatch(expected, manifest.definition_hash, "definition")
    unpinned = [a for a in manifest.anchors if not a.pinned]
    return MatchWithUnpinnedInputs(unpinned) if unpinned else Match()
