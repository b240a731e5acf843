import errno
import pickle

import pytest
from pyarrow import fs

from ecner.data.stores import open_store
from ecner.errors import RunError, TransientError, UsageError
from tests.s3 import BUCKET


def test_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("data/reviews")
    assert store.is_local
    assert store.uri == store.root == str(tmp_path / "data/reviews")
    assert isinstance(store.files, fs.LocalFileSystem)
    store.check()


def test_a_bucket_and_prefix(object_store):
    store = open_store(f"s3://{BUCKET}/some/folder/", object_store.endpoint)
    assert not store.is_local
    assert (store.uri, store.root) == (f"s3://{BUCKET}/some/folder", f"{BUCKET}/some/folder")
    store.check()
    open_store(f"s3://{BUCKET}", object_store.endpoint).check()


@pytest.mark.parametrize(
    "uri",
    ["s3://", "s3:///folder", "s3://b/../other", "s3://b//c", "s3://key:hunter2@bucket/x", "http://host/x", "s3://a b"],
)
def test_an_address_of_another_form(uri):
    with pytest.raises(UsageError, match="is no store") as raised:
        open_store(uri)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:9000", "http://me:hunter2@host", "http://", "http://host/path", "ftp://h"]
)
def test_an_endpoint_of_another_form(endpoint):
    with pytest.raises(UsageError, match=r"the endpoint .* has another form") as raised:
        open_store("s3://bucket", endpoint)
    assert "hunter2" not in str(raised.value)


def test_a_bucket_that_is_not_there(object_store):
    with pytest.raises(UsageError, match=r"cannot use s3://another/x: there is no bucket another"):
        open_store("s3://another/x", object_store.endpoint).check()


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_credentials_that_are_refused(object_store, code):
    store = open_store(f"s3://{BUCKET}/x", object_store.endpoint)
    with object_store.refusing(1, ("403 Forbidden", code)):
        with pytest.raises(UsageError, match="the store refuses the credentials") as raised:
            store.check()
        listing = pytest.raises(RunError, match=r"cannot list it: the store refuses the credentials \((?!HTTP)")
        with listing, store.explaining("list it"):
            store.files.get_file_info(fs.FileSelector(store.root))
    assert "a-secret" not in str(raised.value)


def test_an_endpoint_that_does_not_answer(object_store):
    with pytest.raises(TransientError, match=r"no store answers at http://127\.0\.0\.1:9: .*refused"):
        open_store(f"s3://{BUCKET}/x", "http://127.0.0.1:9").check()


def test_another_process_opens_it_the_same(object_store):
    """pyarrow's own pickles leave the retries behind."""
    store = pickle.loads(pickle.dumps(open_store(f"s3://{BUCKET}/pickled", object_store.endpoint)))  # noqa: S301
    with object_store.refusing():
        found = [store.files.get_file_info(BUCKET) for _ in range(30)]
    assert {info.type for info in found} == {fs.FileType.Directory}
    assert object_store.refused > 10


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            RunError,
            "cannot do it: .*No space left on device; make room on its disk$",
        ),
        (OSError(errno.ESTALE, "Stale file handle"), TransientError, "cannot do it: .*Stale"),
        (OSError("AWS Error SLOW_DOWN during GetObject: x"), TransientError, "overloaded .*SLOW_DOWN.* run again"),
        (OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject: x"), TransientError, "HTTP status 503"),
        (OSError("AWS Error NETWORK_CONNECTION during GetObject: x"), TransientError, "cannot be reached"),
        (OSError("AWS Error UNKNOWN (HTTP status 403) during HeadObject: x"), RunError, "refuses the credentials"),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject: x"), RunError, "no such bucket"),
        (
            OSError("When: AWS Error INVALID_RANGE during GetObject: a\nb"),
            RunError,
            "INVALID_RANGE during GetObject: a$",
        ),
        (OSError(), RunError, "cannot do it: OSError"),
    ],
)
def test_what_errors_mean(error, kind, message):
    with pytest.raises(RunError, match=message) as raised, open_store("x").explaining("do it"):
        raise error
    assert type(raised.value) is kind
