"""A real Prefect server on loopback, a worker beside it, and what a user types to them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.commands import ROOT

PATIENCE = 300  # a busy machine needs a minute to start the server alone
LOG = "processes.log"
T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """A server that runs; ``folder`` is where commands are typed."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.environment["PREFECT_API_URL"]

    def prefect(self, *arguments: object) -> str:
        """``prefect ARGUMENTS``, which must succeed."""
        command = [sys.executable, "-m", "prefect", *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def find(self, what: str, **body: Any) -> list[dict[str, Any]]:
        """What the server holds of flow_runs, deployments, automations, artifacts."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.url}/{what}/filter", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found: list[dict[str, Any]] = json.load(answer)
            return found

    @contextmanager
    def process(self, *arguments: object, folder: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """``python ARGUMENTS`` as a process that is gone afterwards, with all that it has started."""
        command = [sys.executable, *map(str, arguments)]
        with (self.folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=folder or self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            _end(process)

    def log(self) -> str:
        """What its processes have said."""
        return (self.folder / LOG).read_text("utf-8", "replace")


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Starts a server with a home and a database of its own, and waits until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "work").mkdir()
    server = Server(folder / "work", _environment(folder / "home", port))
    with server.process(
        "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port, "--no-ui"
    ) as process:
        wait(lambda: process.poll() is not None or _is_healthy(server.url))
        assert process.poll() is None, server.log()
        yield server


def wait(found: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Asks until the answer is true."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end, f"nothing within {seconds} s"
        time.sleep(0.3)
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, then kills what is left of its group: what it has started may outlive it."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(home: Path, port: int) -> dict[str, str]:
    """The environment without the user's Prefect and settings."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ECNER_"))}
    return mine | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False
