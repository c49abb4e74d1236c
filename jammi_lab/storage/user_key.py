"""Seals of derived files, made with a secret of this user that lies outside of every workspace.

A digest shows damage, not origin: whoever changes a file can change its digest. A library that
reads a forged graph may end the process or never return, so only files that this user's kernels
wrote are read; others are derived again.
"""

import contextlib
import functools
import hmac
import os
import secrets
from pathlib import Path

from jammi_lab.storage.files import open_for_reading
from jammi_lab.storage.trusted_folders import trusted_list

_KEY_BYTES = 32


def seal(data: bytes) -> str:
    """The seal of these bytes. Where no secret can be kept, it holds as long as this process."""
    return hmac.digest(_read_key(trusted_list()), data, "sha256").hex()


def is_own_seal(data: bytes, found: str) -> bool:
    """Whether a seal of these bytes was made by this user."""
    return hmac.compare_digest(seal(data), found.encode("ascii", "replace").decode())


@functools.cache
def _read_key(beside: Path | None) -> bytes:
    """The secret in the folder of the list of trusted folders, which is made at its first use."""
    key = secrets.token_bytes(_KEY_BYTES)
    if beside is None:
        return key
    path = beside.with_name("key")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, key)
        finally:
            os.close(descriptor)
    with contextlib.suppress(OSError), open_for_reading(path, follow_links=True) as file:
        stored = file.read(_KEY_BYTES + 1)
        if len(stored) == _KEY_BYTES:
            return stored
    return key
