"""The options of workspaces in object stores, and of sources there."""

import pytest

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.sources.files.object_stores import StoreAccess
from jammi_lab.storage.object_store import remote_path


def test_storage_options_take_the_names_of_source_options():
    pytest.importorskip("s3fs")
    options = {"key": "k", "secret": "s", "region": "eu-west-1", "endpoint_url": "http://x:1"}
    fs = remote_path("s3://bucket/lab", options).fs
    assert fs.client_kwargs == {"region_name": "eu-west-1"} and fs.key == "k"
    fs = remote_path("s3://bucket/lab", {"profile": "p", "client_kwargs": {"verify": False}}).fs
    assert fs.client_kwargs == {"verify": False}


def test_an_unknown_storage_option_is_named():
    pytest.importorskip("s3fs")
    with pytest.raises(InvalidArgument, match="'regoin'") as raised:
        remote_path("s3://bucket/lab", {"regoin": "eu"})
    assert "region" in raised.value.near


def test_a_changed_endpoint_of_the_environment_gives_another_filesystem(monkeypatch):
    pytest.importorskip("s3fs")
    access = StoreAccess("s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one:1")
    first = access.filesystem
    assert access.filesystem is first
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://two:2")
    assert access.filesystem is not first
