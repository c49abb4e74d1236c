"""Credentials of sources: resolving `secret=`, and credentials kept in memory until the source is
removed or the workspace closes.

`SourceRecord.secret` is stored and names the place of the credential; the credential itself is
never stored:

    MY_PASSWORD            an environment variable, read when needed
    keyring:service/user   an entry of the system's keyring, read when needed
    callable:              a function passed in this kernel; SecretMissing after a restart
    (empty)                typed in the location or the options; SecretMissing after a restart
"""

import os
import re
import threading
from collections.abc import Callable, Mapping

from jammi_lab.core import redaction
from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, SecretMissing
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.locations import HTTP_SCHEMES, STORES, display_location, scheme_of

Secret = str | Callable[[], str]
"""The forms of `secret=`."""
USER_INPUT = ""
CALLABLE = "callable:"
KEYRING = "keyring:"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONVENTIONAL_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""Conventional variable names. A variable with another name must exist, because a password could
look like such a name."""
_NOT_SECRET = ("user", "endpoint_url", "region")
"""Typed values that are not secret."""


def check_secret(secret: object) -> str | None:
    """The stored form of a `secret=`. Raises InvalidArgument for any other text, without repeating
    it, because it may be the password itself."""
    if secret is None or secret == USER_INPUT:
        return None if secret is None else USER_INPUT
    if callable(secret):
        return CALLABLE
    if isinstance(secret, str):
        service, _, user = secret.removeprefix(KEYRING).partition("/")
        is_variable = _CONVENTIONAL_VARIABLE.fullmatch(secret) or (
            _VARIABLE.fullmatch(secret) and secret in os.environ
        )
        if is_variable or secret == CALLABLE or (secret.startswith(KEYRING) and service and user):
            return secret
        redaction.remember_credential(secret)
    raise InvalidArgument(
        "secret= takes the name of an environment variable (in capitals, or one that is set), "
        '"keyring:service/user" or a function that returns the secret.',
        hint="Set an environment variable to the password and pass its name.",
    )


class SecretFunction:
    """A function that returns the secret of a source. It is called once, because it may prompt,
    until the secret is rejected."""

    def __init__(self, function: Callable[[], str]) -> None:
        self.function = function
        self._secret: str | None = None
        self._lock = threading.RLock()  # two threads prompt only once

    def __call__(self, source: str) -> str:
        """The secret. Raises SecretMissing."""
        with self._lock:
            if self._secret is None:
                self._secret = self._ask(source)
            return self._secret

    def _ask(self, source: str) -> str:
        secret, error_name = "", ""
        try:
            secret = self.function()
        except Exception as error:  # noqa: BLE001 — user code; its message may contain the secret
            error_name = type(error).__name__
        if error_name:  # raised outside the handler, so that the error has no context
            raise SecretMissing(
                f"The function for the secret of {source!r} failed with {error_name}."
            )
        if not isinstance(secret, str) or not secret:
            raise SecretMissing(
                f"The function for the secret of {source!r} must return a non-empty string."
            )
        return secret

    def reject(self) -> None:
        """Forget the secret."""
        with self._lock:
            self._secret = None


class Credentials:
    """The credentials of one source: what was typed with it and the function for its secret, which
    this kernel keeps, and what its `secret=` names. Calling it resolves them."""

    def __init__(
        self,
        record: SourceRecord,
        typed: Mapping[str, str] | None = None,
        function: SecretFunction | None = None,
    ) -> None:
        self.record, self.typed, self.function = record, dict(typed or {}), function
        for name, value in self.typed.items():
            if name not in _NOT_SECRET:
                redaction.remember_credential(value)

    def with_input(
        self,
        record: SourceRecord,
        typed: Mapping[str, str],
        function: Callable[[], str] | None,
    ) -> "Credentials":
        """Those given with a source that is added under the name of this one. The same function is
        not called again."""
        if function is None:
            return Credentials(record, typed)
        is_known = self.function is not None and self.function.function is function
        return Credentials(record, typed, self.function if is_known else SecretFunction(function))

    def for_record(self, record: SourceRecord) -> "Credentials":
        """The same for the record as it is stored now."""
        return Credentials(record, self.typed, self.function)

    def __call__(self) -> tuple[Mapping[str, str], str | None]:
        """(typed credentials by name, text of `secret=`). Raises SecretMissing,
        ExtensionMissing."""
        record = self.record
        if record.secret == USER_INPUT and not self.typed:
            raise _missing_error(record, "was added with a credential, which is not stored")
        if not record.secret:
            return self.typed, None
        if record.secret != CALLABLE:
            secret = _look_up(record)
        elif self.function is None:
            raise _missing_error(
                record, "takes its secret from a function that this kernel does not have"
            )
        else:
            secret = self.function(record.name)
        redaction.remember_credential(secret)
        return self.typed, secret

    def reject(self) -> None:
        """Report that the source rejected the credentials."""
        if self.function is not None:
            self.function.reject()

    @property
    def remedy(self) -> str:
        """The hint for rejected credentials."""
        secret = self.record.secret or USER_INPUT
        if secret == CALLABLE:
            return "The function for its secret is called again on the next use."
        if secret.startswith(KEYRING):
            return f"Store the correct password in the keyring: {secret.removeprefix(KEYRING)}."
        return (
            f"Set the environment variable {secret} to the correct password."
            if secret
            else f"Pass the correct password: {_add_call(self.record)}."
        )


def _missing_error(record: SourceRecord, reason: str) -> SecretMissing:
    secret_format = _secret_format(record) if record.secret != CALLABLE else ""
    return SecretMissing(
        f"The source {record.name!r} {reason}.",
        hint=f"Add it again: {_add_call(record)}."
        f"{f' The variable must contain {secret_format}.' if secret_format else ''}",
    )


_SECRET_FORMATS = {
    "s3": "key:secret, or key:secret:token",
    "az": "account:key",
    "gs": "a token",
    **dict.fromkeys(HTTP_SCHEMES, "user:password, a token, or ?query"),
}


def _secret_format(record: SourceRecord) -> str:
    """The format of a secret's text for display; empty if it is just a password."""
    scheme = scheme_of(record.location) or ""
    return _SECRET_FORMATS.get(STORES.get(scheme, scheme), "")


def _add_call(record: SourceRecord) -> str:
    """The call that adds a source again with a credential and otherwise the same arguments."""
    secret = "your_function" if record.secret == CALLABLE else "'NAME_OF_A_VARIABLE'"
    arguments = {
        "anchor": record.anchor if record.anchor != "auto" else None,
        "tenant_column": record.tenant_column,
        "options": record.options or None,
    }
    argument_text = "".join(
        f", {name}={value!r}" for name, value in arguments.items() if value is not None
    )
    return (
        f"ws.sources.add({record.name!r}, {display_location(record.location)!r}, "
        f"secret={secret}{argument_text}, replace=True)"
    )


def _look_up(record: SourceRecord) -> str:
    """The secret from the environment or the keyring. Raises SecretMissing, ExtensionMissing."""
    secret = record.secret or ""
    if not secret.startswith(KEYRING):
        if value := os.environ.get(secret):
            return value
        raise SecretMissing(
            f"The environment variable {secret}, which the source {record.name!r} takes its "
            "secret from, is not set.",
            hint=f"Set it to {_secret_format(record) or 'the password'}, for example by "
            f"os.environ[{secret!r}] = getpass.getpass().",
        )
    try:
        with import_modules():
            import keyring
            from keyring.errors import KeyringError
    except ImportError:
        raise ExtensionMissing(
            "The package keyring is not installed.", hint='Run: pip install "jammi-lab[keyring]".'
        ) from None
    service, _, user = secret.removeprefix(KEYRING).partition("/")
    try:
        password = keyring.get_password(service, user)
    except KeyringError as error:
        raise SecretMissing(
            f"The keyring cannot be read: {type(error).__name__}.",
            hint="Unlock it, or use another form of secret=.",
        ) from None
    if not password:
        raise SecretMissing(
            f"The keyring has no entry {service}/{user}, which the source {record.name!r} takes "
            "its secret from.",
            hint=f"Store {_secret_format(record) or 'the password'}: keyring set {service} {user}.",
        )
    return password
