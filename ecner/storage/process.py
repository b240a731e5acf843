"""Which process holds something, in a form that another one on the same machine can tell to be dead."""

import json
import platform
from pathlib import Path
from typing import Any

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def this_process() -> str:
    """This process as text: its machine since the last boot, the container that numbers it, its number and start."""
    process = psutil.Process()
    return json.dumps({**_here(), "host": platform.node(), "pid": process.pid, "started": _started(process)})


def is_dead(process: str | None) -> bool:
    """Whether a process is known to have ended; of one elsewhere, or in another container, nothing is known."""
    known = _read(process)
    if any(known.get(name) != value for name, value in _here().items()):
        return False
    try:
        found = psutil.Process(known["pid"])
        # A number is given again, but not with the same start.
        return bool(found.status() == psutil.STATUS_ZOMBIE or abs(_started(found) - known["started"]) > 1)
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, KeyError, TypeError):
        return False


def shown(process: str | None) -> str:
    """The process for people."""
    known = _read(process)
    return f"process {known.get('pid', 'unknown')} on {known.get('host', 'an unknown host')}"


def _here() -> dict[str, str]:
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else f"{psutil.boot_time():.0f}"
    numbered_by = str(_PID_NAMESPACE.readlink()) if _PID_NAMESPACE.exists() else ""
    return {"machine": f"{platform.node()} {boot}", "numbered_by": numbered_by}


def _started(process: psutil.Process) -> float:
    """Seconds after the boot, which a clock that is set does not change."""
    return float(process.create_time() - psutil.boot_time())


def _read(process: str | None) -> dict[str, Any]:
    try:
        known = json.loads(process or "")
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}
