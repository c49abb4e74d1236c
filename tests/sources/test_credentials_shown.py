"""No credential is kept or shown, wherever it came in: canaries in every place, looked for
everywhere that a person or file could hold one."""

import gc
import json
import logging
import re
import secrets
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import InvalidArgument, JammiError, StatementNotAllowed, mask_credentials
from jammi_lab.core.redaction import (
    looks_like_address,
    redact,
    remember_credential,
    typed_credentials,
)
from tests.cases import cases
from tests.inside import services_of
from tests.services.stores import bucket_of, parquet_bytes, web_server, without_aws
from tests.sources.servers import RUN, URLS

CANARY = "CANARY7f3a91c2"


Added = tuple[str, dict[str, Any]]


def by_secret(address: str, text: str, how: str, monkeypatch: pytest.MonkeyPatch) -> Added:
    """The same address with its secret by environment, keyring or function."""
    monkeypatch.setenv("A_SECRET", text)
    if how == "keyring":
        import keyring

        monkeypatch.setattr(keyring, "get_password", lambda *_: text)
    return address, {
        "secret": {
            "environment": "A_SECRET",
            "keyring": "keyring:service/me",
            "function": lambda: text,
        }[how]
    }


def told(ws: Any, logs: pytest.LogCaptureFixture, errors: list[BaseException]) -> dict[str, str]:
    """All that can be seen of a workspace, by where."""
    found: dict[str, str] = {"logs": logs.text}
    for source in ws.sources.list():
        found |= {
            f"{source.name} repr": repr(source),
            f"{source.name} html": source._repr_html_(),
            f"{source.name} location": source.location,
        }
        found[f"{source.name} vars"] = repr(vars(source))
    found |= {
        "sources repr": repr(ws.sources),
        "sources html": ws.sources._repr_html_(),
        "workspace": repr(ws),
        "status": repr(ws.status()),
    }
    found["lineage"] = ws.lineage().to_mermaid() + repr(ws.lineage())
    for name in ("sources", "tables", "anchors", "status", "lineage"):
        found[f"jammi_catalog.{name}"] = repr(ws.sql(f"FROM jammi_catalog.{name}").fetchall())
    for table in ws.tables(status=None):
        found[f"manifest {table.table_name}"] = (
            repr(table.manifest.to_dict()) if table.manifest else ""
        )
        found[f"table {table.table_name}"] = (
            repr(table) + repr(table.staleness()) + str(table.staleness()) + repr(table.inputs)
        )
    for tenant in list(services_of(ws).engine.instances_by_tenant):
        cursor = services_of(ws).engine.instances_of(tenant).main.cursor()
        for what in ("databases", "secrets", "settings"):
            found[what] = repr(cursor.execute(f"FROM duckdb_{what}()").fetchall())
        cursor.close()
    for number, error in enumerate(errors):
        shown = (
            "".join(traceback.format_exception(error))
            if not isinstance(error, JammiError)
            else "\n".join(error.lines())
        )
        found[f"error {number}"] = (
            shown
            + repr(error)
            + str(error)
            + repr({k: v for k, v in vars(error).items() if k != "full_traceback"})
        )
        found[f"chain {number}"] = "\n".join(map(held, chain(error)))
    return found


def chain(error: BaseException) -> list[BaseException]:
    """An error and all that are behind it, also those that no traceback shows."""
    found, left = list[BaseException](), [error]
    while left:
        each = left.pop()
        if each not in found:
            found.append(each)
            left += [
                one
                for one in (each.__cause__, each.__context__, *getattr(each, "exceptions", ()))
                if one is not None
            ]
    return found


def held(value: Any, depth: int = 8) -> str:
    """All texts that an error reaches, but for those of its traceback's frames."""
    if isinstance(value, str | bytes | bytearray):
        return value if isinstance(value, str) else bytes(value).decode("latin-1")
    if depth == 0 or isinstance(
        value,
        types.ModuleType
        | type
        | types.FunctionType
        | types.MethodType
        | types.TracebackType
        | int
        | float
        | None,
    ):
        return ""
    inner: list[Any] = (
        [*value, *value.values()]
        if isinstance(value, dict)
        else list(value)
        if isinstance(value, list | tuple | set)
        else []
    )
    inner += [*getattr(value, "__dict__", {}).items()]
    inner += [
        getattr(value, name, None)
        for kind in type(value).__mro__
        for name in getattr(kind, "__slots__", ())
        if isinstance(name, str)
    ]
    inner += [value.args, str(value), repr(value)] if isinstance(value, BaseException) else []
    return "\n".join(filter(None, (held(each, depth - 1) for each in inner)))


def exercise(ws: Any, name: str, location: str, more: dict[str, Any]) -> list[BaseException]:
    """Add, read, materialise, look, and ask for what is not there; the errors met on the way."""
    errors: list[BaseException] = []

    def attempt(work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    attempt(lambda: ws.sources.add(name, location, **more))
    attempt(lambda: ws.sources.add(name, location + "x", **more))
    attempt(
        lambda: ws.sources.add(
            name + "_wrong",
            location,
            **{**more, "options": {**more.get("options", {}), "no_such_option": CANARY}},
        )
    )
    tables = []
    attempt(lambda: tables.extend(ws.sources[name].tables()))
    table = f"{name}.{tables[0]}" if tables and tables[0] != name else name
    attempt(lambda: ws.sql(f"SELECT * FROM {table}").fetchall())
    attempt(lambda: ws.sql(f"SELECT no_such_column FROM {table}").fetchall())
    attempt(lambda: ws.materialize(f"t_{name}", f"SELECT count(*) AS n FROM {table}"))
    attempt(lambda: ws.sql(f"FROM '{location}'").fetchall())
    attempt(lambda: ws.sql(f"FROM read_parquet('{location}')").fetchall())
    attempt(lambda: ws.sources[name].anchor())
    return errors


def check_everywhere(
    folder: Path, ways: dict[str, Added], logs: pytest.LogCaptureFixture, down: Callable[[], None]
) -> None:
    logs.set_level(logging.INFO)  # what a library writes for its own debugging is asked for by name
    canaries = (CANARY, CANARY.lower())
    with jl.open(folder) as ws:
        errors: list[BaseException] = []
        for name, (location, more) in ways.items():
            before = len(errors)
            errors += exercise(ws, name, location, more)
            assert name in ws.sources and f"t_{name}" in ws, (
                name,
                [str(e) for e in errors[before:]],
            )
        down()
        for name in ways:
            try:
                ws.sql(f"SELECT * FROM {name}").fetchall()
            except Exception as error:
                errors.append(error)
        for where, text in told(ws, logs, errors).items():
            assert not any(secret in text for secret in canaries), where
    with jl.open(folder) as ws:
        for where, text in told(ws, logs, []).items():
            assert not any(secret in text for secret in canaries), f"after a restart: {where}"
    for path in folder.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert not any(secret.encode() in held for secret in canaries), path
    gc.collect()


def test_of_object_stores(tmp_path, endpoint, monkeypatch, caplog):
    without_aws(monkeypatch)
    bucket = bucket_of(endpoint)
    bucket.put("x.parquet", parquet_bytes(id=[1, 2]))
    plain, place = bucket.url("x.parquet"), {"endpoint_url": endpoint}
    ways: dict[str, Added] = {
        "url": (plain.replace("s3://", f"s3://{CANARY}KEY:{CANARY}%2Fs@"), {"options": place}),
        "options": (
            plain,
            {
                "options": {
                    **place,
                    "key": f"{CANARY}KEY",
                    "secret": CANARY,
                    "token": f"{CANARY}TOKEN",
                }
            },
        ),
    }
    for how in ("environment", "keyring", "function"):
        address, more = by_secret(plain, f"{CANARY}KEY:{CANARY}", how, monkeypatch)
        ways[how] = (address, {**more, "options": place})
    check_everywhere(tmp_path / "lab", ways, caplog, lambda: bucket.remove("x"))


def test_of_http(tmp_path, monkeypatch, caplog):
    with web_server() as site:
        site.files["x.parquet"] = parquet_bytes(id=[1, 2])
        plain = site.url("x.parquet")
        ways: dict[str, Added] = {
            "user": (plain.replace("http://", f"http://me:{CANARY}@"), {}),
            "token_as_user": (plain.replace("http://", f"http://{CANARY}@"), {}),
            "query": (f"{plain}?year=2020&access_token={CANARY}", {}),
            "signature": (f"{plain}?X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}", {}),
        }
        for how, text in (
            ("environment", CANARY),
            ("keyring", f"me:{CANARY}"),
            ("function", f"?sig={CANARY}"),
        ):
            ways[how] = by_secret(plain, text, how, monkeypatch)
        check_everywhere(tmp_path / "lab", ways, caplog, lambda: setattr(site, "status", 500))


@pytest.mark.services
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_of_servers(tmp_path, request, monkeypatch, caplog, kind):
    """A user of its own, whose password is the canary."""
    url, run = request.getfixturevalue(URLS[kind]), RUN[kind]
    user = f"canary_{secrets.token_hex(4)}"
    made, dropped = f"{user}@'%' IDENTIFIED BY '{CANARY}'", f"{user}@'%'"
    if kind == "postgresql":
        made, dropped = f"{user} PASSWORD '{CANARY}'", user
    everything = "seen" if kind == "postgresql" else "*.*"
    run(
        url,
        "CREATE TABLE IF NOT EXISTS seen (id int)",
        f"CREATE USER {made}",
        f"GRANT SELECT ON {everything} TO {dropped}",
    )
    try:
        scheme, rest = url.split("://", 1)
        plain = f"{scheme}://{user}@{rest.rsplit('@', 1)[-1]}"
        ways: dict[str, Added] = {
            "typed": (plain.replace(f"{user}@", f"{user}:{CANARY}@"), {}),
            "query": (f"{plain}?password={CANARY}", {})
            if kind == "postgresql"
            else (plain.replace(f"{user}@", f"{user}:{CANARY}@"), {}),
        }
        for how in ("environment", "keyring", "function"):
            ways[how] = by_secret(plain, CANARY, how, monkeypatch)
        check_everywhere(tmp_path / "lab", ways, caplog, lambda: None)
    finally:
        if kind == "postgresql":
            run(url, f"REVOKE ALL ON seen FROM {user}")
        run(url, f"DROP USER {dropped}")


FORMS = [
    "host=h port=1 user=u password={}",
    "host=h password='{}' dbname=x",
    " postgresql://u:{}@127.0.0.1:1/d",
    '"postgresql://u:{}@127.0.0.1:1/d"',
    "postgresql:/u:{}@h/d",
    "postgresql//u:{}@h/d",
    "postgresq://u:{}@h/d",
    "postgresql://u:{}@[::1/d",
    "postgresql+psycopg://u:{}@127.0.0.1:1/d",
    "jdbc:postgresql://h/d?user=u&password={}",
    "u:{}@h/d",
    "Server=h;Uid=u;Pwd={};",
    "postgresql+psycopg://me@127.0.0.1:1/x?password={}",
    "postgresql://me:{}@127.0.0.1:port/x",
    "postgresql://me:{0}@127.0.0.1:1/x?nonsuch={0}",
    "nonsense://me:{}@127.0.0.1:1/x",
    "mysql://me:{}@127.0.0.1:1/x",
]


@pytest.mark.parametrize(("number", "form"), list(enumerate(FORMS)))
def test_of_an_address_in_any_spelling(tmp_path, number, form):
    password = f"Zq{number}%dXk9!"
    address = form.format(password)
    quoted = address.replace("'", "''")
    with jl.open(tmp_path / "ws") as ws:
        for attempt in (
            lambda: ws.sources.add("a", address),
            lambda: ws.sources.add("b", address, check=False),
            lambda: ws.sql(f"SELECT * FROM '{quoted}'"),
            lambda: ws.sql(f"SELECT * FROM read_csv('{quoted}')"),
            lambda: jl.open(tmp_path / "other", catalog=address),
        ):
            shown = repr(ws.sources.list())
            try:
                attempt()
            except JammiError as error:
                shown += "".join(map(held, chain(error))) + repr(error) + str(error.near)
            assert password not in shown and quote(password, safe="") not in shown


@pytest.mark.parametrize(
    ("address", "more"),
    cases("sources/addresses_with_credentials", "address", "more"),
)
def test_of_a_source_that_cannot_be_reached_whatever_is_behind_the_error(
    ws, monkeypatch, address, more
):
    without_aws(monkeypatch)
    with pytest.raises(JammiError) as caught:
        ws.sources.add("s", address.format(CANARY), **more)
    assert not any(CANARY in held(error) for error in chain(caught.value))


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("FROM 'https://me:pass@host/x.csv'", "me:pass"),
        ("FROM 'https://token@host/x.csv'", "token"),
        ("s3://key:secret@bucket/x", "key:secret"),
        ("https://host/x?year=1&access_token=abc&b=2", "access_token=abc"),
        ("https://host/x?X-Amz-Signature=abc", "X-Amz-Signature=abc"),
        ("SELECT a ? b", ""),
        ("it's at me@host", ""),
        ("https://host/x?year=2020", ""),
        ("postgresql://me@host/db", ""),
    ],
)
def test_what_somebody_else_wrote_is_masked_in_its_own_length(text, hidden):
    assert mask_credentials(text) == text.replace(hidden, "*" * len(hidden))


@pytest.mark.every_case
@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["/", " ", "pass", "?pass", "?token=%3D", "a://", "password =  "])
def test_a_long_text_is_looked_through_once(text):
    text *= 200_000 // len(text)
    assert len(mask_credentials(text)) == len(text)
    typed_credentials(text)
    assert looks_like_address(text) == text.startswith("password")


def test_the_marked_line_of_a_statement_shows_no_password_and_keeps_its_caret():
    sql = "SELECT * FROM 'https://me:hunter2@host/x.csv'"
    error = StatementNotAllowed("No.", hint="https://me:hunter2@host").with_position(sql, 14)
    assert "hunter2" not in "\n".join(error.lines()) + str(vars(error))
    assert error.excerpt.split("\n")[1].index("^") == 14


@pytest.mark.parametrize(
    "key", ["password=in-an-option-key-1", "postgresql://u:in-an-option-key-1@host/db"]
)
def test_a_password_in_the_name_of_an_option_or_setting_is_not_shown(tmp_path, key):
    with jl.open(tmp_path / "lab") as ws:
        for attempt in (
            lambda: ws.sources.add("s", "postgresql://u@localhost/db", options={key: 1}),
            lambda: jl.open("s3://bucket/lab", catalog="x", storage_options={key: 1}),
            lambda: jl.open(tmp_path / "other", settings={key: 1}),
        ):
            with pytest.raises(jl.JammiError) as error:
                attempt()
            shown = str(error.value) + repr(error.value)
            assert "in-an-option-key-1" not in shown


def test_an_address_that_is_no_url_is_not_stored_as_a_path(ws):
    for form in FORMS[:6]:
        with pytest.raises(InvalidArgument, match="not a URL"):
            ws.sources.add("a", form.format("Zq4%dXk9!"), kind="parquet", check=False)


def test_a_credential_is_redacted_after_hundreds_of_others_and_however_it_is_quoted():
    password = "o'Zq\"%d\\Xk/ é&9"
    remember_credential(password)
    for number in range(400):
        remember_credential(f"other-credential-{number}")
    for text in (
        password,
        quote(password),
        re.sub("%..", lambda code: code[0].lower(), quote(password, safe="")),
        repr(password),
        repr(f"x{password}"),
        json.dumps(password),
        password.replace("'", "''"),
    ):
        assert "*******" in redact(text) and "Zq" not in redact(text), text
