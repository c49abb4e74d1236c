"""What all values share: `to_dict()` and short digests in sentences."""

from typing import Any

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """An immutable value that compares by its fields."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, texts and numbers; sums carry their tag under `kind`."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def short(digest: str | None) -> str:
    """The first 12 characters of a digest, for people."""
    return "none" if digest is None else digest[:12]
