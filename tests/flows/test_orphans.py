"""A run that is killed leaves its Prefect server behind: the next run ends it, and no server of a run that lives."""

import os
import subprocess
import sys

import psutil
import pytest

from tests.commands import ROOT
from tests.flows.server import wait

# A run as far as its flow: what a kill leaves then is what it leaves at any later time.
RUN = "from flows.local import run_here\nwith run_here(debug=False):\n    print('flow', flush=True)\n    input()"


@pytest.fixture
def adopt(here):
    from flows.orphans import adopt  # noqa: PLC0415 - Prefect looks for its home when flows are imported

    return adopt


@pytest.fixture
def start(here):
    """Starts runs, and ends them with what they have started."""
    begun = []

    def start(program):
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        begun.append(process)
        for line in process.stdout:
            if line == "flow\n":
                break
        begun.extend(children := psutil.Process(process.pid).children(recursive=True))
        return process, children

    yield start
    for process in begun:
        if process.poll() is None if isinstance(process, subprocess.Popen) else process.is_running():
            process.kill()
    for process in begun:
        if isinstance(process, subprocess.Popen):
            process.communicate()


@pytest.mark.slow
def test_the_server_of_a_killed_run_is_ended_by_the_next(adopt, start, monkeypatch):
    monkeypatch.setenv("STARTED_BY_ECNER", "")  # adopt sets it: the test's own process gets back what it had
    process, children = start(RUN)
    assert [child for child in children if "prefect.server.api.server:create_app" in child.cmdline()]
    adopt()
    assert all(child.is_running() for child in children)
    process.kill()
    wait(lambda: not alive(psutil.Process(process.pid)), 20)  # it is a zombie now, which owns nothing
    adopt()
    wait(lambda: not any(alive(child) for child in children), 20)


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
