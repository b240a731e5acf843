"""Commands as a user gives them: in this process where that will do, else in one of their own."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from ecner.cli import app

ROOT = Path(__file__).parents[1]


def invoke(*arguments: object, stdin: bytes = b"") -> Result:
    """``ecner ARGUMENTS`` in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def spawn(*arguments: object, module: str = "ecner.cli", **variables: str) -> subprocess.Popen[bytes]:
    """``python -m MODULE ARGUMENTS`` in a process of its own, in the folder that is current."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
    )


def ended(process: subprocess.Popen[bytes], timeout: float = 120) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out.decode(), err.decode()


def complaint(result: Result) -> str:
    """The one message of a command that failed, after a look that it is one."""
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    return result.stderr


def is_empty(folder: Path) -> bool:
    """Whether nothing was left in a folder, hidden files included."""
    return not any(folder.iterdir())
