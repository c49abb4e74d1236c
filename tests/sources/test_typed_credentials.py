"""No text shows a password that somebody typed in an address, in whatever spelling."""

import json
import re
import traceback
from urllib.parse import quote

import pytest

import jammi_lab
from jammi_lab.core import redaction
from jammi_lab.core.errors import InvalidArgument, JammiError

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
]


@pytest.mark.parametrize(("number", "form"), list(enumerate(FORMS)))
def test_no_spelling_of_an_address_shows_its_password(tmp_path, number, form):
    password = f"Zq{number}%dXk9!"
    address = form.format(password)
    quoted = address.replace("'", "''")
    with jammi_lab.open(tmp_path / "ws") as ws:
        for attempt in (
            lambda: ws.sources.add("a", address),
            lambda: ws.sources.add("b", address, check=False),
            lambda: ws.sql(f"SELECT * FROM '{quoted}'"),
            lambda: ws.sql(f"SELECT * FROM read_csv('{quoted}')"),
            lambda: jammi_lab.open(tmp_path / "other", catalog=address),
        ):
            text = ""
            try:
                attempt()
            except JammiError as error:
                text = "".join(traceback.format_exception(error)) + repr(error) + str(error.near)
            assert password not in text + repr(ws.sources.list())
            assert quote(password, safe="") not in text


def test_an_address_that_is_no_url_is_not_stored_as_a_path(ws):
    for form in FORMS[:6]:
        with pytest.raises(InvalidArgument, match="not a URL"):
            ws.sources.add("a", form.format("Zq4%dXk9!"), kind="parquet", check=False)


def test_a_credential_is_redacted_after_hundreds_of_others_and_however_it_is_quoted():
    password = "o'Zq\"%d\\Xk/ é&9"
    redaction.remember_credential(password)
    for number in range(400):
        redaction.remember_credential(f"other-credential-{number}")
    for text in (
        password,
        quote(password),
        re.sub("%..", lambda code: code[0].lower(), quote(password, safe="")),
        repr(password),
        repr(f"x{password}"),
        json.dumps(password),
        password.replace("'", "''"),
    ):
        assert "*******" in redaction.redact(text) and "Zq" not in redaction.redact(text), text
