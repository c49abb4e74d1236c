"""Credentials of remote files: taken out of what a person typed before anything is stored, and turned into how a store or server is asked.

A URL's user part, those parts of its query that look like a credential, and the options key, secret and token are used while the kernel lives and
never stored. What a `secret=` gives is a text:

    object stores   `key:secret` or `key:secret:token`; JSON with these names; or the secret alone, when a key is given otherwise
    http, https     `user:password`; `?query` to put behind the address; or a token, sent as a bearer
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jammi_lab.errors import InvalidArgument, SecretMissing
from jammi_lab.sources import addresses, objects
from jammi_lab.sources.base import Given
from jammi_lab.sources.locations import scheme_of, split_store, split_web
from jammi_lab.values.records import SourceRecord

if TYPE_CHECKING:
    from jammi_lab.sources.web import Door

WEB = ("http", "https")
_S3_QUERY = {
    "s3_access_key_id": "key",
    "s3_secret_access_key": "secret",
    "s3_session_token": "token",
    "s3_endpoint": "endpoint_url",
    "s3_region": "region",
}


def taken_out(location: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, str]]:
    """The location and options as they may be stored and shown, and the credentials that were in them. InvalidArgument, telling none of them."""
    scheme = scheme_of(location)
    kept: dict[str, Any] = dict(options)
    taken: dict[str, str] = {}
    if addresses.kind_of(scheme) is not None:
        location, taken = addresses.taken_out(location)
    elif scheme in WEB:
        location, taken = split_web(location)
    elif scheme in objects.STORES:
        for name in objects.CREDENTIALS:
            if kept.get(name) is not None:
                taken[name] = kept.pop(name)
        location = _from_store(location, kept, taken)
        objects.check_endpoint(kept)
    return location, kept, taken


def place_options(location: str) -> Mapping[str, tuple[type, ...]]:
    """The options of where files are, beside those of their kind."""
    return objects.OPTIONS if scheme_of(location) in objects.STORES else {}


def _from_store(location: str, kept: dict[str, Any], taken: dict[str, str]) -> str:
    location, said = split_store(location)
    for name, value in said.items():
        option = _S3_QUERY.get(name.lower(), name)
        if option not in objects.OPTIONS or option == "anon":
            raise InvalidArgument(
                f"The address of an object store takes no {name[:40]!r}.", hint=f"Options are {', '.join(objects.OPTIONS)}: options={{…}}."
            )
        (taken if option in objects.CREDENTIALS else kept).setdefault(option, value)
    return location


def entrance(record: SourceRecord, given: Given) -> objects.Access | Door | None:
    """How the files of a record are asked for; None where nothing is needed. SecretMissing, InvalidArgument."""
    scheme = scheme_of(record.location)
    if scheme in WEB:
        from jammi_lab.sources.web import door

        values, secret = given()
        return door(values.get("user"), values.get("password"), values.get("query", ""), secret)
    if scheme in objects.STORES:
        values, secret = _given(record, given)
        said: dict[str, Any] = {name: value for name, value in record.options.items() if name in objects.OPTIONS}
        return objects.Access(objects.STORES[scheme], said, {**values, **_read(secret)})
    return None


def of_a_lake(record: SourceRecord, given: Given) -> objects.Access:
    """How the tables are asked for that a catalog elsewhere tells of: by the secret of a catalog in a file, or by the AWS_* variables; that of a
    server is for the server. SecretMissing, InvalidArgument."""
    said: dict[str, Any] = {name: value for name, value in record.options.items() if name in objects.OPTIONS}
    secret = given()[1] if record.secret and scheme_of(record.location) is None else None
    return objects.Access("s3", said, _read(secret))


_ELSEWHERE = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "az": ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"),
}
"""Variables by which each store's library finds credentials of its own."""


def _given(record: SourceRecord, given: Given) -> tuple[Mapping[str, str], str | None]:
    try:
        return given()
    except SecretMissing:
        elsewhere = _ELSEWHERE.get(objects.STORES.get(scheme_of(record.location) or "", ""), ())
        if record.secret == "" and any(os.environ.get(name) for name in elsewhere):  # what was typed is not kept, and not needed
            return {}, None
        raise


def _read(secret: str | None) -> dict[str, str]:
    """The credentials that a secret's text means."""
    if secret is None:
        return {}
    text = secret.strip()
    if text.startswith("{"):
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict) or not all(name in objects.CREDENTIALS and isinstance(value, str) for name, value in said.items()):
            raise InvalidArgument("The secret is no JSON object of key, secret and token.", hint='Give {"key": "…", "secret": "…"}.')
        return said
    parts = text.split(":", 2)
    return {"secret": parts[0]} if len(parts) == 1 else dict(zip(objects.CREDENTIALS, parts, strict=False))
