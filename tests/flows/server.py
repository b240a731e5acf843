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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.commands import ROOT

PATIENCE = 300  # a busy machine needs a minute to start the server alone
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
    def process(self, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
        """A process of the project, which is gone afterwards with all that it has started."""
        with running([sys.executable, *map(str, arguments)], self.folder, self.environment) as process:
            yield process


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
        assert process.poll() is None, log_of(server.folder)
        yield server


def wait(found: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Asks until the answer is true."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end, f"nothing within {seconds} s"
        time.sleep(0.3)
    return answer


@contextmanager
def running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, whose output goes to a file; the group is killed afterwards."""
    with (folder / "processes.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def log_of(folder: Path) -> str:
    """What the processes in a folder have said."""
    return (folder / "processes.log").read_text("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM) if process.poll() is None else None
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)  # what it has started may outlive it
    except ProcessLookupError:
        pass
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
