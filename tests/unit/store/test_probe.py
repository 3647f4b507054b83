"""A store that will not do is told of in one sentence, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.lossy import answering, lossy
from undrift.errors import StoreError
from undrift.store.bucket import Bucket
from undrift.store.place import Folder
from undrift.store.probe import check_store


def test_store_that_will_do_is_left_as_it_was(bucket: Bucket, tmp_path: Path) -> None:
    check_store(bucket)
    assert bucket.sizes() == {}
    check_store(Folder(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
def test_store_that_ignores_a_condition_is_refused(
    object_store: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    with lossy(object_store) as proxy:
        proxy.ignored = header
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(StoreError, match="does not honour conditional puts"):
            check_store(bucket)


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (403, "AccessDenied", "the credentials do not suffice; they need GetObject"),
        (403, "InvalidAccessKeyId", "the store refuses the credentials; set AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "the store refuses the credentials"),
        (404, "NoSuchBucket", "there is no such bucket; make it"),
        (501, "NotImplemented", "does not honour conditional puts"),
        (500, "InternalError", "cannot use s3://state/"),
    ],
)
def test_refusal_is_told_with_what_to_do(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, code: int, said: str, told: str
) -> None:
    with answering(code, f"<Error><Code>{said}</Code></Error>") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(StoreError, match=told) as caught:
            check_store(bucket)
    assert "\n" not in str(caught.value)


def test_store_that_is_not_there_and_missing_credentials_are_told(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="cannot be reached; is AWS_ENDPOINT_URL right"):
        check_store(bucket)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:10")
    with pytest.raises(StoreError, match="there are no credentials; set AWS_ACCESS_KEY_ID"):
        check_store(bucket)


@pytest.mark.parametrize("endpoint", ["localhost:9000", ""])
def test_endpoint_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL must be http://host:port"):
        Bucket("s3://bucket/state")
