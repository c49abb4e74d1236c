"""Credentials of remote files: stripped from the location before it is stored, and turned into
access options.

The user part of a URL, query parameters that look like a credential, and the options key, secret
and token are used while the kernel lives and never stored. The text of a `secret=` has one of these
forms:

    object stores   `key:secret` or `key:secret:token`; or the secret alone
                    if the key is given otherwise, and for gs, where it is the token
    http, https     `user:password`; `?query` to append to the URL; or a bearer token
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jammi_lab.core import redaction
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.base import ReadCredentials
from jammi_lab.sources.files import object_stores
from jammi_lab.sources.locations import HTTP_SCHEMES, STORES, scheme_of, split_location

if TYPE_CHECKING:
    from jammi_lab.sources.files.http import HttpCredentials

_LIKE_AN_ADDRESS = re.compile(
    r".*\bdbname\s*="
    r"|[\s'\"(<\[]*(?:jdbc:)?(?:postgres|mysql|mariadb|sqlite|duckdb)\w*(?:\+\w+)?(?::|/.*@)",
    re.I | re.S,
)
"""Other spellings of a database URL, which would be stored as a path."""


def strip_credentials(
    location: str, options: Mapping[str, Any]
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """The location and options without credentials, and the credentials. Raises InvalidArgument,
    whose message contains none of them."""
    if not os.path.exists(location):
        redaction.remember_typed_credentials(location)
    scheme = scheme_of(location)
    if (
        scheme is None
        and (_LIKE_AN_ADDRESS.match(location) or redaction.looks_like_address(location))
        and not os.path.exists(location)
    ):
        raise InvalidArgument(
            "The location looks like the address of a database, but is not a URL.",
            hint="Write sqlite:///data.db, or postgresql://user@host/database or mysql://…, "
            "and pass the password with secret=.",
        )
    location, credentials = split_location(location)
    if scheme not in STORES:
        return location, dict(options), credentials
    if not credentials.keys() <= set(object_stores.CREDENTIALS):
        raise InvalidArgument(
            "The URL of an object store takes no parameters.",
            hint=f"Pass them as options={{…}}: {', '.join(object_stores.OPTIONS)}.",
        )
    given = {**credentials, **options}
    typed = dict[str, str]()
    for name in object_stores.CREDENTIALS:
        value = given.pop(name, None)
        if value is not None:
            typed[name] = value
    object_stores.check_endpoint(given)
    return location, given, typed


def location_options(location: str) -> Mapping[str, type]:
    """The options that a location takes in addition to those of its kind."""
    return object_stores.OPTIONS if scheme_of(location) in STORES else {}


def resolve_credentials(
    record: SourceRecord, credentials: ReadCredentials
) -> object_stores.StoreAccess | HttpCredentials | None:
    """The access to a source's files; None if it needs none. Raises SecretMissing,
    InvalidArgument."""
    scheme = scheme_of(record.location)
    if scheme in HTTP_SCHEMES:
        from jammi_lab.sources.files.http import http_credentials

        values, secret = credentials()
        return http_credentials(
            values.get("user"), values.get("password"), values.get("query", ""), secret
        )
    if scheme in STORES:
        values, secret = credentials()
        known = {k: v for k, v in record.options.items() if k in object_stores.OPTIONS}
        given = {**values, **_parse_secret(secret)}
        return object_stores.StoreAccess(STORES[scheme], known, given)
    return None


def _parse_secret(secret: str | None) -> dict[str, str]:
    """Parse the text of a secret."""
    if secret is None:
        return {}
    text = secret.strip()
    if text.startswith("{"):
        raise InvalidArgument(
            "The secret must not be JSON.", hint="Write key:secret, or key:secret:token."
        )
    parts = text.split(":", 2)
    return (
        {"secret": parts[0]}
        if len(parts) == 1
        else dict(zip(object_stores.CREDENTIALS, parts, strict=False))
    )
