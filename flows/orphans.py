"""What a run has started must not outlive it: Prefect's temporary server, the processes of a local cluster.

They are ended by the run itself, unless it is killed. So each carries its owner's name in its environment, from the
moment it is there, and the next run ends those whose owner is gone.
"""

import os
import socket
from contextlib import suppress

import psutil

_MARK = "STARTED_BY_ECNER"
_PATIENCE = 5.0


def adopt() -> None:
    """Ends what killed runs have left on this machine; from here on, children of this process bear its name."""
    end_orphans()
    me = psutil.Process()
    os.environ[_MARK] = f"{socket.gethostname()}/{me.pid}/{me.create_time()}"


def end_orphans() -> int:
    """Ends marked processes whose owner is gone, and says how many there were."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    left = [process for process in psutil.process_iter() if process.pid not in mine and _is_orphan(process)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, _PATIENCE)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return len(left)


def _is_orphan(process: psutil.Process) -> bool:
    """Whether a run on this machine has started it, and is gone. Processes of other users are not ours to look at."""
    try:
        mark = process.environ().get(_MARK, "")
    except (psutil.Error, OSError):
        return False
    host, _, owner = mark.partition("/")
    return host == socket.gethostname() and not _lives(*owner.split("/"))


def _lives(pid: str, started: str) -> bool:
    """Whether the process is there: the same one, and no zombie that nobody has asked after."""
    try:
        process = psutil.Process(int(pid))
        return abs(process.create_time() - float(started)) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
