"""Where `secret=` leads to, what a kernel holds, and what is struck out of messages."""

import traceback

import keyring
import pytest

from jammi_lab.core import redaction as scrubbing
from jammi_lab.core.errors import InvalidArgument, SecretMissing, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.secrets import CALLABLE, USER_INPUT, Credentials, check_secret
from tests.inside import services_of


def record(secret: str | None, name: str = "crm", tenant: str | None = None) -> SourceRecord:
    return SourceRecord(
        name=name,
        kind="postgresql",
        location="postgresql://me@host/db",
        secret=secret,
        tenant=tenant,
    )


def test_a_variable_is_read_when_it_is_needed(monkeypatch):
    assert Credentials(record(None))() == ({}, None)
    given = Credentials(record("CRM_PASSWORD"))
    with pytest.raises(
        SecretMissing,
        match="CRM_PASSWORD, which the source 'crm' takes its secret from, is not set",
    ):
        given()
    monkeypatch.setenv("CRM_PASSWORD", "one")
    assert given() == ({}, "one")
    monkeypatch.setenv("CRM_PASSWORD", "two")
    assert given() == ({}, "two")


def test_the_keyring_is_read_when_it_is_needed(monkeypatch):
    held = {("jammi", "me"): "from-the-keyring"}
    monkeypatch.setattr(keyring, "get_password", lambda *entry: held.get(entry))
    assert Credentials(record("keyring:jammi/me"))() == (
        {},
        "from-the-keyring",
    )
    with pytest.raises(SecretMissing, match="has no entry jammi/you") as caught:
        Credentials(record("keyring:jammi/you"))()
    assert "keyring set jammi you" in caught.value.hint


def test_a_function_is_asked_once_and_again_when_its_answer_was_refused():
    asked = []

    def prompt() -> str:
        asked.append(1)
        return f"answer {len(asked)}"

    first = Credentials(record(CALLABLE)).with_input(record(CALLABLE), {}, prompt)
    assert first() == ({}, "answer 1")
    assert first.for_record(record(CALLABLE))() == ({}, "answer 1")
    again = first.with_input(record(CALLABLE), {}, prompt)
    assert again() == ({}, "answer 1")
    again.reject()
    assert first() == ({}, "answer 2")


def test_a_function_lives_with_the_kernel():
    with pytest.raises(SecretMissing, match="a function that this kernel does not have"):
        Credentials(record(CALLABLE))()


@pytest.mark.parametrize("answer", [None, "", 7])
def test_a_function_must_return_text(answer):
    with pytest.raises(SecretMissing, match="must return a non-empty string"):
        Credentials(record(CALLABLE)).with_input(record(CALLABLE), {}, lambda: answer)()


def test_a_function_that_fails_tells_its_kind_only():
    def fail() -> str:
        raise ValueError("the password is hunter2000")

    with pytest.raises(SecretMissing, match="failed with ValueError") as caught:
        Credentials(record(CALLABLE)).with_input(record(CALLABLE), {}, fail)()
    told = "".join(traceback.format_exception(caught.value))
    assert "hunter2000" not in told and not isinstance(caught.value.__context__, ValueError)


def test_what_was_typed_is_held_for_its_owner_until_it_is_released(ws):
    directory, own = services_of(ws).source_directory, record(USER_INPUT, tenant="a")
    directory.store_credentials(own, Credentials(own, {"password": "of a"}))
    same = record(USER_INPUT, name="CRM", tenant="a")
    assert directory.credentials(same)() == ({"password": "of a"}, None)
    with pytest.raises(SecretMissing):
        directory.credentials(record(USER_INPUT, tenant="b"))()
    directory.release(own)
    with pytest.raises(SecretMissing, match="with a credential, which is not stored"):
        directory.credentials(own)()


@pytest.mark.parametrize("said", ["NAME", "_N1", "keyring:service/user", None])
def test_what_may_be_stored_of_a_secret(said):
    assert check_secret(said) == said


def test_a_variable_that_is_set_may_have_any_name(monkeypatch):
    monkeypatch.setenv("crm_password", "x")
    assert check_secret("crm_password") == "crm_password"


@pytest.mark.parametrize(
    "password",
    ["p@ssw0rd!", "two words", "keyring:nouser", "1abc", "keyring:/x", "hunter2", "Zq9xKw7p"],
)
def test_a_password_in_the_place_of_a_name_is_refused_and_not_told(password):
    with pytest.raises(InvalidArgument, match="name of an environment variable") as caught:
        check_secret(password)
    assert password not in str(caught.value)


def test_used_credentials_are_struck_out_of_every_error():
    scrubbing.remember_credential("s3cr3t/w?rd")
    error = SourceUnavailable(
        "no s3cr3t/w?rd here, nor s3cr3t%2Fw%3Frd", hint="not s3cr3t/w?rd"
    ).with_position("SELECT 's3cr3t/w?rd'", 8)
    for text in (
        str(error),
        error.message,
        error.hint,
        repr(error),
        "".join(error.rendered_lines()),
    ):
        assert "s3cr3t" not in text and (text == error.hint or "***" in text)


def test_a_very_short_credential_is_struck_out_where_a_value_is_written():
    scrubbing.remember_credential("zq")
    assert (
        scrubbing.redact("user=me password=zq; zqa is a word")
        == "user=me password=**; zqa is a word"
    )
    assert (
        scrubbing.redact("more than zq row, 'zq', me:zq@host")
        == "more than zq row, '**', me:**@host"
    )


def test_a_longer_credential_is_struck_out_before_one_that_is_part_of_it():
    scrubbing.remember_credential("abcdefgh")
    scrubbing.remember_credential("abcdefghijkl")
    assert scrubbing.redact("x abcdefghijkl y") == "x ************ y"


@pytest.mark.parametrize(
    ("location", "holds"),
    [
        ("s3://b/x.csv", "key:secret"),
        ("az://c/x.csv", "account:key"),
        ("gs://b/x.csv", "a token"),
        ("https://h/x.csv", "user:password"),
        ("mysql://h/d", ""),
    ],
)
def test_what_a_variable_must_hold_is_said_where_its_secret_is_missing(
    monkeypatch, location, holds
):
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    there = SourceRecord(name="s", kind="csv", location=location, secret="NO_SUCH_VARIABLE")
    with pytest.raises(SecretMissing, match="NO_SUCH_VARIABLE") as caught:
        Credentials(there)()
    assert (
        f"Set it to {holds or 'the password'}" in caught.value.hint
        and "NO_SUCH_VARIABLE" in caught.value.hint
    )
    typed = SourceRecord(name="s", kind="csv", location=location, secret=USER_INPUT)
    with pytest.raises(SecretMissing, match="is not stored") as caught:
        Credentials(typed)()
    assert (f"The variable must contain {holds}" in caught.value.hint) == bool(holds)
