"""Files behind http, against a server whose answers each test shapes."""

import hashlib
import io

import pytest

from jammi_lab.core.anchors import Cost, Unknown
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.credentials import strip_credentials
from jammi_lab.sources.files import http as web
from jammi_lab.sources.files import remote_files
from jammi_lab.sources.files import snapshots as sightings
from jammi_lab.sources.locations import without_credentials
from jammi_lab.sources.scratch_duckdb import query
from jammi_lab.storage import spill_folders
from tests.cases import cases
from tests.contracts.source import DictMemo, observed, same_state
from tests.services.proxy import listening
from tests.services.stores import parquet_bytes, web_server
from tests.sources.remote import remote_source as source
from tests.verdicts import is_fresh, is_stale


def strong(body):
    return f'"{hashlib.sha256(body).hexdigest()}"'


def test_a_strong_tag_spares_the_bytes_and_a_date_does_not(site):
    site.files["x.csv"], memo = b"id\n1\n", DictMemo()
    site.etag = strong
    assert [observed(source(site.url("x.csv")), memo).cost for _ in range(2)] == [
        Cost.SCAN,
        Cost.METADATA,
    ]
    site.etag, site.modified = None, "Wed, 01 Jan 2020 00:00:00 GMT"
    connector = source(site.url("x.csv"))
    site.files["x.csv"] = "id\n1\n".encode("utf-16")
    before = observed(connector, memo)
    site.files["x.csv"] = "id\n2\n".encode("utf-16")  # as long as before, and its date put back
    after = observed(connector, memo)
    assert after.cost is Cost.SCAN and not same_state(before, after)
    assert query(connector.relation(None), "FROM it") == [(2,)], "nor does one spare a conversion"


@pytest.mark.parametrize("tag", [strong, None])
def test_a_small_file_is_fetched_once_for_all_that_is_done_with_it(ws, site, tag):
    site.etag, site.files["x.csv"] = tag, b"id,name\n1,a\n2,b\n"

    def fetched(act):
        site.asked.clear()
        act()
        return [method for method, _, _ in site.asked].count("GET")

    assert fetched(lambda: ws.sources.add("x", site.url("x.csv"))) == 1
    made = fetched(lambda: ws.materialize("t", "SELECT id FROM x WHERE name <> ''"))
    read = fetched(lambda: ws.sql("FROM x").fetchall())
    if tag is None:  # what is listed again may be another file
        assert made <= 4 and read == 1
    else:
        assert (made, read) == (0, 0)
        site.files["x.csv"] = b"id,name\n1,a\n2,b\n3,c\n"
        assert fetched(lambda: is_stale(ws)) == 1 and fetched(ws.recompute) == 0
        assert ws.table("t").row_count == 3


def test_what_is_fetched_is_what_was_listed(site):
    site.etag, site.files["x.csv"] = strong, b"id\n1\n"
    [listed] = source(site.url("x.csv")).file_set.list_files("csv")
    site.files["x.csv"] = b"id\n2\n"
    with pytest.raises(OSError, match="changed during the read"):
        listed.open()
    site.files["x.csv"] = b"id\n1\n"
    assert listed.open().read() == b"id\n1\n"


def test_a_large_text_is_fetched_once_and_a_copy_that_was_cleaned_away_again(ws, site, monkeypatch):
    monkeypatch.setattr(web, "MAX_MEMORY_BYTES", 1000)
    monkeypatch.setattr(remote_files, "MAX_PART_BYTES", 1000)
    site.ranges, site.etag = True, strong
    site.files["x.csv"] = b"id,name\n" + b"".join(b"%d,a\n" % n for n in range(9_000))
    ws.sources.add("x", site.url("x.csv"))
    assert ws.sql("SELECT count(*), sum(id) FROM x").fetchall() == [(9_000, 40_495_500)]
    assert [method for method, _, _ in site.asked].count("GET") == 1
    folder = spill_folders.new_instance_path().parent
    for copy in folder.glob("*/bytes"):
        copy.unlink()
    assert ws.sql("SELECT count(*) FROM x").fetchall() == [(9_000,)]
    assert [method for method, _, _ in site.asked].count("GET") == 2


def test_copies_are_removed_with_the_last_that_uses_them():
    folder = spill_folders.new_instance_path().parent
    before = len([*folder.glob("*")])
    copy = remote_files._fetched_copy(lambda: io.BytesIO(b"id\n"), 3)
    assert len([*folder.glob("*")]) == before + 1 and copy.path.read_bytes() == b"id\n"
    with pytest.raises(OSError, match="changed during the read"):
        remote_files._fetched_copy(lambda: io.BytesIO(b"id"), 3)
    del copy
    assert len([*folder.glob("*")]) == before


def test_of_an_anchor_on_content_the_bytes_are_fetched_whatever_the_tag(ws, site):
    site.etag, site.files["x.csv"] = lambda _: '"always"', b"id\n1\n"
    ws.sources.add("x", site.url("x.csv"), anchor="content")
    ws.materialize("t", "FROM x")
    site.files["x.csv"] = b"id\n2\n"
    assert is_stale(ws)
    ws.recompute()
    assert ws.sql("FROM jammi.t").fetchall() == [(2,)]


@pytest.mark.parametrize("tag", ['""', '"', 'W/"1"', "1", '"1', "*"])
def test_a_tag_that_names_no_bytes_spares_none(site, tag):
    site.files["x.csv"], memo, site.etag = b"id\n1\n", DictMemo(), lambda _: tag
    before = observed(source(site.url("x.csv")), memo)
    site.files["x.csv"] = b"id\n2\n"
    assert not same_state(before, observed(source(site.url("x.csv")), memo))


@pytest.mark.parametrize(
    ("tag", "date"),
    [(strong, ""), (lambda _: '"always"', "Thu, 02 Jan 2020 00:00:00 GMT"), (None, "")],
)
def test_another_large_file_of_its_size_is_seen(site, monkeypatch, tag, date):
    """By its tag, by its date, or else by its bytes."""
    monkeypatch.setattr(sightings, "MIN_MARKED_BYTES", 4)
    site.etag, site.files["x.csv"] = tag, b"id\n1\n"
    connector = source(site.url("x.csv"))
    before = observed(connector, scan_bytes=0 if tag else 99)
    assert before.method == ("ETag with size" if tag else "digest of the bytes")
    assert same_state(before, observed(connector))
    site.files["x.csv"], site.modified = b"id\n2\n", date or site.modified
    assert not same_state(before, observed(connector))


def test_large_files_are_read_in_parts_and_a_change_meanwhile_is_an_error(site, monkeypatch):
    monkeypatch.setattr(web, "MAX_MEMORY_BYTES", 1000)
    monkeypatch.setattr(remote_files, "MAX_PART_BYTES", 1000)
    monkeypatch.setattr(web, "BLOCK_BYTES", 4096)
    site.ranges, site.etag = True, strong
    site.files["x.parquet"] = parquet_bytes(
        id=list(range(20_000)), name=[str(i) for i in range(20_000)]
    )
    connector = source(site.url("x.parquet"))
    assert query(connector.relation(None), "SELECT count(*), sum(id) FROM it") == [
        (20_000, 199_990_000)
    ]
    told = web.head(site.url("x.parquet"), web.HttpCredentials())
    with web.open_url(site.url("x.parquet"), web.HttpCredentials(), told) as file:
        assert file.read(4) == b"PAR1"
        site.files["x.parquet"] = site.files["x.parquet"][:-1] + b"x"
        file.seek(9000)
        with pytest.raises(OSError, match=r"changed|incomplete"):
            while file.read(4096):
                site.ranges = False


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (500, "returned HTTP 500"),
        (503, "returned HTTP 503"),
        (401, "permission denied"),
        (403, "permission denied"),
    ],
)
def test_a_server_that_fails_or_refuses_is_unknown(site, status, word):
    site.status = status
    seen = observed(source(site.url("x.csv")))
    assert isinstance(seen, Unknown) and word in seen.why
    with pytest.raises(SourceUnavailable, match=word):
        source(site.url("x.csv")).check()


def test_refused_connections_and_silence_are_unknown(site, monkeypatch):
    seen = observed(source("http://127.0.0.1:9/x.csv"))
    assert isinstance(seen, Unknown) and "refused" in seen.why
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 0.2)
    with listening() as port:
        seen = observed(source(f"http://127.0.0.1:{port}/x.csv"))
    assert isinstance(seen, Unknown) and "no response in time" in seen.why


def test_a_body_that_ends_early_is_no_file(site):
    site.files["x.csv"] = b"id\n1\n"
    told = web.HeadResponse(9, None, "", False, site.url("x.csv"))
    with pytest.raises(OSError, match="incomplete"):
        web.open_url(site.url("x.csv"), web.HttpCredentials(), told)


# -- credentials -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "clean", "taken"),
    cases("sources/http_credentials", "typed", "clean", "taken"),
)
def test_credentials_are_taken_out_of_an_address(typed, clean, taken):
    assert strip_credentials(typed, {}) == (clean, {}, taken)
    assert without_credentials(typed) == clean
    assert without_credentials(clean) == clean


@pytest.mark.parametrize(
    ("address", "secret", "needs"),
    cases("sources/http_needs", "address", "secret", "needs"),
)
def test_a_credential_is_used_however_it_was_given(site, address, secret, needs):
    site.files["x.csv"], site.required = b"id\n1\n", needs
    connector = source(address.format(site.address.removeprefix("http://")), secret=secret)
    connector.check()
    assert query(connector.relation(None), "FROM it") == [(1,)]
    assert "hunter2" not in connector.location + repr(connector.relation(None))


def test_a_redirect_to_another_host_gets_no_credential(site):
    with web_server() as other:
        other.files["x.csv"] = b"id\n1\n"
        site.redirect["x.csv"] = other.url("x.csv").replace("127.0.0.1", "localhost")
        assert query(source(site.url("x.csv"), secret="hunter2").relation(None), "FROM it") == [
            (1,)
        ]
        assert site.asked and all(said == "Bearer hunter2" for _, _, said in site.asked)
        assert other.asked and all(said is None for _, _, said in other.asked)
        assert {method for method, _, _ in other.asked} == {"HEAD", "GET"}


def test_a_tag_counts_for_the_address_that_a_redirect_leads_to(ws, site):
    site.etag, site.modified = lambda body: '"65920080-c"', "Mon, 01 Jan 2024 00:00:00 GMT"
    for month, rows in (("1", b"n\n1\n"), ("2", b"n\n9\n")):
        site.files[f"{month}.csv"] = rows
    site.redirect["latest.csv"] = site.url("2.csv")
    [listed] = source(site.url("latest.csv")).file_set.list_files("csv")
    site.redirect["latest.csv"] = site.url("1.csv?signature=a")
    with pytest.raises(OSError, match="changed during the read"):
        listed.open()
    ws.sources.add("latest", site.url("latest.csv"))
    ws.materialize("t", "FROM latest")
    site.redirect["latest.csv"] = site.url("1.csv?signature=b")
    assert is_fresh(ws)
    site.redirect["latest.csv"] = site.url("2.csv?signature=b")
    assert is_stale(ws)
    assert ws.sql("FROM latest").fetchall() == [(9,)]


def test_a_redirect_to_a_file_is_not_followed(site, tmp_path):
    (tmp_path / "x.csv").write_text("id\n1\n")
    site.redirect["x.csv"] = f"file://{tmp_path}/x.csv"
    with pytest.raises(SourceUnavailable):
        source(site.url("x.csv")).check()


HEADERS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.every_case
@pytest.mark.parametrize(
    "answer",
    [
        HEADERS + b"Content-Length: \xb2\r\n\r\n0\r\n\r\n",
        HEADERS + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n0\r\n\r\n",
        HEADERS + b"Last-Modified: Mon, 01 Jan 99999999999999999999 00:00:00\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://a..b/\r\n\r\n",
        HEADERS + b"\r\n-5\r\nabc\r\n",
        HEADERS + b"\r\n" + b"f" * 70_000 + b"\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ],
    ids=["length", "digits", "date", "redirect", "host", "chunk", "long chunk", "no http"],
)
def test_an_answer_that_is_not_valid_http_is_a_typed_error_or_its_header_is_ignored(answer):
    with listening(answer) as port, pytest.raises(SourceUnavailable):
        source(f"http://127.0.0.1:{port}/x.csv").check()
