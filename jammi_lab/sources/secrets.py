"""Credentials of sources: where `secret=` leads to, and what this kernel holds in memory until a source is removed or the workspace closes.

`SourceRecord.secret` says where the credential is, and is stored; the credential itself never is:

    MY_PASSWORD            the environment variable of that name, read when it is needed
    keyring:service/user   the system's keyring, read when it is needed
    callable:              a function that this kernel was given; after a restart SecretMissing
    (the empty text)       it was typed with the location or the options; after a restart SecretMissing
"""

import os
import re
import threading
from collections.abc import Callable, Mapping

from jammi_lab import scrubbing
from jammi_lab.errors import ExtensionMissing, InvalidArgument, SecretMissing
from jammi_lab.names import fold
from jammi_lab.sources.locations import scheme_of, shown
from jammi_lab.sources.objects import STORES
from jammi_lab.values.records import SourceRecord

Secret = str | Callable[[], str]
"""What `secret=` takes."""
TYPED = ""
CALLABLE = "callable:"
KEYRING = "keyring:"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USUAL = re.compile(r"[A-Z_][A-Z0-9_]*")
"""How variables are named; of another name it is asked that there be one, since a password looks like that."""
_OPEN = ("user", "endpoint_url", "region")
"""Parts of what was typed that are no secret by themselves."""


def check_secret(secret: object) -> str | None:
    """What to store of a `secret=`. InvalidArgument for what is none of its forms, without telling it: it may be the password itself."""
    if secret is None or secret == TYPED:
        return None if secret is None else TYPED
    if callable(secret):
        return CALLABLE
    if isinstance(secret, str):
        service, _, user = secret.removeprefix(KEYRING).partition("/")
        named = _USUAL.fullmatch(secret) or (_VARIABLE.fullmatch(secret) and secret in os.environ)
        if named or secret == CALLABLE or (secret.startswith(KEYRING) and service and user):
            return secret
        scrubbing.remember(secret)
    raise InvalidArgument(
        'secret= takes the name of an environment variable (in capitals, or one that is set), "keyring:service/user" or a function that returns it.',
        hint="Put the password into an environment variable and give that variable's name.",
    )


class Vault:
    """What this kernel holds of credentials, by owner and name of the source."""

    def __init__(self) -> None:
        self._typed: dict[tuple[str | None, str], dict[str, str]] = {}
        self._functions: dict[tuple[str | None, str], Callable[[], str]] = {}
        self._answers: dict[tuple[str | None, str], tuple[Callable[[], str], str]] = {}
        self._lock = threading.RLock()

    def keep(self, record: SourceRecord, typed: Mapping[str, str] | None = None, function: Callable[[], str] | None = None) -> None:
        """Hold what was typed with a source, or the function that gives its secret, in the place of what was held."""
        at = _at(record)
        with self._lock:
            answer = self._answers.get(at)
            self.release(record)
            if answer is not None and answer[0] is function:
                self._answers[at] = answer
            if typed:
                self._typed[at] = dict(typed)
                _remember(typed)
            if function is not None:
                self._functions[at] = function

    def release(self, record: SourceRecord) -> None:
        """Hold nothing of it any more."""
        with self._lock:
            for held in (self._typed, self._functions, self._answers):
                held.pop(_at(record), None)

    def refused(self, record: SourceRecord) -> None:
        """The source did not take the credential: a function is asked again next time."""
        with self._lock:
            self._answers.pop(_at(record), None)

    def given(self, record: SourceRecord, typed: Mapping[str, str] | None = None, function: Callable[[], str] | None = None) -> "Given":
        """The credentials of a record, to be had when they are needed; `typed` and `function` are those of a source that is being added."""
        return Given(self, record, typed, function)

    def _find(self, given: "Given") -> tuple[Mapping[str, str], str | None]:
        record, at = given.record, _at(given.record)
        with self._lock:
            typed = self._typed.get(at, {}) if given.typed is None else given.typed
            function = self._functions.get(at) if given.function is None else given.function
        _remember(typed)
        if record.secret is None or record.secret == TYPED:
            if record.secret == TYPED and not typed:
                raise _missing(record, "was added with a credential, which is not kept")
            return typed, None
        secret = self._called(record, function) if record.secret == CALLABLE else _looked_up(record)
        scrubbing.remember(secret)
        return typed, secret

    def _called(self, record: SourceRecord, function: Callable[[], str] | None) -> str:
        """A function's answer; asked once, because it may prompt, and again when the answer was refused."""
        at = _at(record)
        with self._lock:  # two threads that need it prompt once
            if function is None:
                raise _missing(record, "takes its secret from a function, and this kernel was not given it")
            if at in self._answers and self._answers[at][0] is function:
                return self._answers[at][1]
            answer, failed = "", ""
            try:
                answer = function()
            except Exception as error:  # noqa: BLE001 — a person's own code; its text may hold the secret
                failed = type(error).__name__
            if failed:  # raised out here, the error carries the other one along in no way
                raise SecretMissing(f"The function for the secret of {record.name!r} failed with {failed}.")
            if not isinstance(answer, str) or not answer:
                raise SecretMissing(f"The function for the secret of {record.name!r} returned no text.")
            self._answers[at] = (function, answer)
            return answer


class Given:
    """Called when the credentials of one source are needed: what was typed, by name, and the text that `secret=` leads to. SecretMissing."""

    def __init__(self, vault: Vault, record: SourceRecord, typed: Mapping[str, str] | None, function: Callable[[], str] | None) -> None:
        self.record, self.typed, self.function = record, typed, function
        self._vault = vault

    def __call__(self) -> tuple[Mapping[str, str], str | None]:
        """(what was typed, the secret's text). SecretMissing, ExtensionMissing."""
        return self._vault._find(self)

    def refused(self) -> None:
        """The source did not take them."""
        self._vault.refused(self.record)

    @property
    def remedy(self) -> str:
        """What to do when the source did not take them."""
        secret = self.record.secret or TYPED
        if secret == CALLABLE:
            return "The function for its secret is asked again at the next use."
        if secret.startswith(KEYRING):
            return f"Put the right password into the keyring for {secret.removeprefix(KEYRING)}."
        return f"Set the environment variable {secret} to the right password." if secret else f"Give the right password: {_again(self.record)}."


def _at(record: SourceRecord) -> tuple[str | None, str]:
    return (record.tenant, fold(record.name))


def _remember(typed: Mapping[str, str]) -> None:
    for name, value in typed.items():
        if name not in _OPEN:
            scrubbing.remember(value)


def _missing(record: SourceRecord, why: str) -> SecretMissing:
    held = _held(record) if record.secret != CALLABLE else ""
    return SecretMissing(
        f"The source {record.name!r} {why}.", hint=f"Add it again: {_again(record)}.{f' The variable holds {held}.' if held else ''}"
    )


def _held(record: SourceRecord) -> str:
    """What a secret's text is, where it is more than a password; in words."""
    match STORES.get(scheme_of(record.location) or ""):
        case "s3":
            return "key:secret, or key:secret:token"
        case "az":
            return "account:key"
        case "gs":
            return "a token"
    return "user:password, a token, or ?query" if scheme_of(record.location) in ("http", "https") else ""


def _again(record: SourceRecord) -> str:
    """The call that gives a source its credential again and leaves all else as it is."""
    secret = "your_function" if record.secret == CALLABLE else "'NAME_OF_A_VARIABLE'"
    kept = {"anchor": record.anchor if record.anchor != "auto" else None, "tenant_column": record.tenant_column, "options": record.options or None}
    said = "".join(f", {name}={value!r}" for name, value in kept.items() if value is not None)
    return f"ws.sources.add({record.name!r}, {shown(record.location)!r}, secret={secret}{said}, replace=True)"


def _looked_up(record: SourceRecord) -> str:
    """What the environment or the keyring holds."""
    secret = record.secret or ""
    if not secret.startswith(KEYRING):
        if value := os.environ.get(secret):
            return value
        raise SecretMissing(
            f"The environment variable {secret}, which the source {record.name!r} takes its secret from, is not set.",
            hint=f"Set it to {_held(record) or 'the password'}, for example by os.environ[{secret!r}] = getpass.getpass().",
        )
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise ExtensionMissing("The package keyring is not installed.", hint='Run: pip install "jammi-lab[keyring]".') from None
    service, _, user = secret.removeprefix(KEYRING).partition("/")
    try:
        found = keyring.get_password(service, user)
    except KeyringError as error:
        raise SecretMissing(f"The keyring cannot be read: {type(error).__name__}.", hint="Unlock it, or give secret= another way.") from None
    if not found:
        raise SecretMissing(
            f"The keyring holds nothing for {service}/{user}, which the source {record.name!r} takes its secret from.",
            hint=f"Put {_held(record) or 'the password'} there: keyring set {service} {user}.",
        )
    return found
