"""A real object store on loopback, which can be made to refuse its requests."""

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server

from ecner.config import LakeSettings

BUCKET = "reviews"
REFUSALS = (("503 Slow Down", "SlowDown"), ("500 Internal Server Error", "InternalError"))


@dataclass
class ObjectStore:
    """moto's S3 behind a door: ``refuse`` sets the share of requests that it keeps shut for."""

    endpoint: str = ""
    share: float = 0.0
    refusals: tuple[tuple[str, str], ...] = REFUSALS
    refused: int = 0
    stage: str = ""
    times: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    _draw: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311
    _inside: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if not self._refuses(environ):
            return self._inside(environ, start)  # type: ignore[no-any-return]
        self.refused += 1
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, code = self._draw.choice(self.refusals)
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>not now</Message></Error>".encode()
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    @contextmanager
    def refusing(self, share: float = 0.5, *refusals: tuple[str, str]) -> Iterator[None]:
        """Refuses a share of the requests in the block, drawn from a seed."""
        self.share, self.refusals, self.refused = share, refusals or REFUSALS, 0
        self._draw.seed(0)
        try:
            yield
        finally:
            self.share = 0.0

    @contextmanager
    def refusing_uploads(self, stage: str, *, times: int) -> Iterator[None]:
        """Refuses the next requests that write and whose query begins with a stage, such as ``partNumber=2``."""
        self.stage, self.times, self.refused = stage, times, 0
        try:
            yield
        finally:
            self.times = 0

    def _refuses(self, environ: dict[str, Any]) -> bool:
        writes = environ["REQUEST_METHOD"] in {"PUT", "POST"} and environ["QUERY_STRING"].startswith(self.stage)
        if self.times and writes:
            self.times -= 1
            return True
        return self._draw.random() < self.share

    def lake(self, prefix: str, **settings: Any) -> LakeSettings:
        """Settings of a lake in the bucket."""
        return LakeSettings(uri=f"s3://{BUCKET}/{prefix}", endpoint=self.endpoint, **settings)

    @property
    def files(self) -> fs.S3FileSystem:
        """Another way in than the one that is tested."""
        return fs.S3FileSystem(
            endpoint_override=self.endpoint.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A server with one bucket, and credentials for it in the environment, of child processes too."""
    store = ObjectStore()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, store, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "a-key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store.files.create_dir(BUCKET)
        yield store
    server.shutdown()
    server.server_close()
    thread.join()
