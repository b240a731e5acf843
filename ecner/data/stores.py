"""Stores of files: a folder here, or a bucket and prefix of an object store; one file system over both.

Credentials are those that AWS's own tools would use; none is ever part of an address.
"""

import errno
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from ecner.config import redacted
from ecner.errors import RunError, TransientError, UsageError

_S3 = "s3://"
_REGION = "us-east-1"  # what stores other than AWS expect
_ATTEMPTS = 10  # of each request, 25 s in all: half of them may be refused, and 2000 requests lose one
_ONE_REQUEST = 5 << 20  # bytes; pyarrow uploads in parts from 10 MB on
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 5, 60
_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # which the answers of a store, in XML, cannot hold
_ENDPOINT = re.compile(r"(https?)://((?:[\w-]{1,63}(?:\.[\w-]{1,63})*\.?|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?)/?", re.ASCII)
_BUSY = {
    "SLOW_DOWN", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "THROTTLING", "REQUEST_TIMEOUT", "NETWORK_CONNECTION",
}  # fmt: skip
_REFUSED = {
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH",
    "MISSING_AUTHENTICATION_TOKEN", "UNRECOGNIZED_CLIENT",
}  # fmt: skip
_PASSING = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT}  # of a mounted file system
_HINTS = {
    errno.ENOENT: "it was never written, or removed since",
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room on its disk",
    errno.EACCES: "check who may write there",
    errno.EPERM: "check who may write there",
    errno.EROFS: "check who may write there",
    errno.ENOTDIR: "name a folder",
}


@dataclass(frozen=True)
class Store:
    """A folder by its address, which opens where it is used: another process may be given it. See ``open_store``."""

    uri: str
    endpoint: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a folder here."""
        return not self.uri.startswith(_S3)

    @property
    def files(self) -> fs.FileSystem:
        """The file system that it is on; an own one of each process."""
        return fs.LocalFileSystem() if self.is_local else _object_store(self.endpoint)

    @property
    def root(self) -> str:
        """Its path on that file system; of an object store bucket and prefix."""
        return self.uri.removeprefix(_S3)

    def check(self) -> None:
        """Asks an object store for the bucket, to find out early that it cannot be used.

        Raises:
            UsageError: there is no such bucket, or the credentials are refused.
            TransientError: the store does not answer.
        """
        if self.is_local:
            return
        if self.endpoint is not None:
            _knock(self.endpoint)
        bucket = self.root.split("/")[0]
        try:
            with self.explaining(f"use {self.uri}"):
                found = self.files.get_file_info(bucket)
        except TransientError:
            raise
        except RunError as error:
            raise UsageError(str(error)) from error
        if found.type == fs.FileType.NotFound:
            raise UsageError(f"cannot use {self.uri}: there is no bucket {bucket}; make it, or name another")

    def put(self, path: Path, name: str) -> None:
        """Uploads a file from here to an object store, where it takes its name whole or not at all."""
        content = pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")
        files = _object_store(self.endpoint, opens_late=content.size < _ONE_REQUEST)
        with ThreadPoolExecutor(1) as apart:  # where no signal comes between the lines
            apart.submit(_send, content, files, f"{self.root}/{name}").result()

    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        """Turns what goes wrong in the block into a message about what was being done, such as ``write x.parquet``.

        Raises:
            TransientError: it may work a moment later.
            RunError: it will not.
        """
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            problem, passes = _explain(error)
            raise (TransientError if passes else RunError)(f"cannot {doing}: {problem}") from error


def open_store(uri: str, endpoint: str | None = None) -> Store:
    """The store at a folder or ``s3://bucket/prefix``; ``endpoint`` is that of a store other than AWS.

    Nothing is looked at yet: ``Store.check`` does.

    Raises:
        UsageError: an address of another form.
    """
    if not uri.startswith(_S3):
        if "://" in uri:
            raise UsageError(f"{redacted(uri)} is no store: expected a folder, or s3://bucket/folder")
        return Store(str(Path(uri).absolute()))
    parts = uri.removeprefix(_S3).rstrip("/").split("/")
    if (
        not re.fullmatch(r"[A-Za-z0-9][\w.-]*", parts[0], re.ASCII)
        or {"", ".", ".."} & {*parts}
        or _CONTROL.search(uri)
    ):
        raise UsageError(
            f"{redacted(uri)} is no store: expected s3://bucket/folder, and credentials in AWS's own places, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if endpoint is not None:
        _address(endpoint)
    return Store(_S3 + "/".join(parts), endpoint)


def _send(content: pa.Buffer, files: fs.S3FileSystem, target: str) -> None:
    """A stream has no way to be given up: whatever was written ends as a file once it is closed or forgotten.

    So all is written at once. pyarrow's copy_files would pass over an upload that failed.
    """
    stream = files.open_output_stream(target)
    stream.write(content)
    stream.close()


@lru_cache
def _object_store(endpoint: str | None, *, opens_late: bool = False) -> fs.S3FileSystem:
    """One client for all stores at an endpoint: its connections are used again.

    One that opens files late writes a small one in a single request, and leaves a large one empty where its upload is
    refused from the beginning.
    """
    scheme, address = (None, None) if endpoint is None else _address(endpoint)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        scheme=scheme,
        endpoint_override=address,
        region=region or (_REGION if endpoint else None),
        connect_timeout=_SECONDS_TO_CONNECT,
        request_timeout=_SECONDS_TO_ANSWER,
        # AWS's standard strategy stops retrying altogether once many requests were refused
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=opens_late,
    )


def _address(endpoint: str) -> tuple[str, str]:
    """Scheme and host:port of an endpoint."""
    found = _ENDPOINT.fullmatch(endpoint)
    if found is None:
        raise UsageError(f"the endpoint {redacted(endpoint)} has another form than http://127.0.0.1:9000: set it anew")
    return found[1], found[2]


def _knock(endpoint: str) -> None:
    """Looks whether anything is there: the requests themselves would try for long."""
    parts = urlsplit(endpoint)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((str(parts.hostname), port), timeout=_SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:
        raise TransientError(
            f"no store answers at {endpoint}: {error}; start it, or set the endpoint to where it is"
        ) from None


def _explain(error: BaseException) -> tuple[str, bool]:
    """What an error of a file system means, and whether it may pass by itself."""
    found = _ERROR.search(str(error))
    if found is None:
        said, number = next(iter(str(error).splitlines()), type(error).__name__), getattr(error, "errno", None)
        return (f"{said}; {_HINTS[number]}" if number in _HINTS else said), number in _PASSING
    code, status = found[1], int(found[2] or 0)
    shown = f"HTTP status {status}" if status else code
    if code in _BUSY or status >= 500 or status == 429:  # noqa: PLR2004
        return f"the store is overloaded or cannot be reached ({shown}); run again later", True
    if code in _REFUSED or status in {401, 403}:
        return f"the store refuses the credentials ({shown}); check AWS_ACCESS_KEY_ID and what its owner may do", False
    if code == "NO_SUCH_BUCKET":
        return "there is no such bucket; make it, or name another", False
    return f"the store says {str(error)[found.start() :].splitlines()[0]}", False
