"""What a run has started must not outlive it: above all Prefect's temporary server, which looks after no parent.

It is ended by the run itself, unless that is killed. So whatever a run starts carries its owner's name in its
environment, from the moment that it is there, and the next run ends what has no owner any more.
"""

import os
from contextlib import suppress

import psutil

from ecner.storage.process import is_dead, this_process

_MARK = "STARTED_BY_ECNER"
_PATIENCE = 5.0


def adopt() -> None:
    """Ends what killed runs have left on this machine; from here on, children of this process bear its name."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    left = [process for process in psutil.process_iter() if process.pid not in mine and _is_orphan(process)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, _PATIENCE)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os.environ[_MARK] = this_process()


def _is_orphan(process: psutil.Process) -> bool:
    """Whether the run that started it is gone. Processes of other users are not ours to look at."""
    try:
        return is_dead(process.environ().get(_MARK))
    except (psutil.Error, OSError):
        return False
