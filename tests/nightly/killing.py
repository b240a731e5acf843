"""Runs nights in processes of their own that kill themselves, or are killed, on the way.

``python -m tests.nightly.killing`` reads a request a line from stdin and answers with an exit status each: negative for
the signal that ended the night. It loads the libraries once and forks a child for each night, which does all the rest.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import sqlalchemy as sa
import torch

from ecner.errors import RunError
from ecner.inference.reader import Reader
from ecner.lake import Lake
from ecner.nightly import run
from ecner.nightly.run import Night
from ecner.storage import warehouse
from ecner.storage.transaction import Transaction
from tests.nightly.house import House

READ_LOG = "read.log"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def counted(target: Any, name: str, count: int, *, after: bool = False) -> None:
    """Makes the count-th call of a function the last thing that happens, or what comes right behind it."""
    original, calls = getattr(target, name), iter(range(1, 10**9))

    def call(*args: Any, **options: Any) -> Any:
        number = next(calls)
        if number == count and not after:
            die()
        result = original(*args, **options)
        if number == count:
            die()
        return result

    setattr(target, name, call)


def in_publish(prepare: Callable[[], None]) -> None:
    """Sets a trap when publishing begins."""
    original = run.publish

    def publish(*args: Any, **options: Any) -> None:
        prepare()
        original(*args, **options)

    run.publish = publish


def half_a_reading(count: int) -> None:
    """Dies with half of the count-th shard's reading on disk."""
    write, calls = pl.DataFrame.write_parquet, iter(range(1, 10**9))

    def half(self: pl.DataFrame, path: Path) -> None:
        write(self, path)
        if "readings" in path.parts and next(calls) == count:
            os.truncate(path, path.stat().st_size // 2)
            die()

    pl.DataFrame.write_parquet = half  # type: ignore[method-assign,assignment]


POINTS: dict[str, Callable[[int], None]] = {
    "none": lambda _: None,
    "migration": lambda _: counted(warehouse, "upgrade", 1, after=True),
    "ledger": lambda _: counted(Night, "_begin", 1, after=True),
    "plan": lambda count: counted(Lake, "write", count),
    "planned": lambda _: counted(Night, "plan", 1, after=True),
    "shard": lambda count: counted(Night, "extract", count),
    "half a shard": half_a_reading,
    "extracted": lambda _: counted(run, "publish", 1),
    "publish": lambda count: in_publish(lambda: counted(Transaction, "append", count)),
    "deletion": lambda count: in_publish(lambda: counted(Transaction, "delete", count, after=True)),
    "commit": lambda _: in_publish(lambda: sa.event.listen(sa.Engine, "commit", lambda _connection: die())),
    "committed": lambda _: counted(run, "publish", 1, after=True),
    "report": lambda _: counted(run, "make_report", 1),
}


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _night(**request)
        if (seconds := request.get("seconds")) is not None:
            time.sleep(seconds)
            _kill(child, worker=request.get("victim") == "worker")
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _kill(driver: int, *, worker: bool) -> None:
    """Kills a night's process, or the one that reads for it, where there is one at this moment."""
    victims = psutil.Process(driver).children() if worker else []
    with suppress(ProcessLookupError):
        os.kill(victims[0].pid if victims else driver, signal.SIGKILL)


def _night(  # noqa: PLR0913 - a request, field by field
    *,
    folder: str,
    model: str,
    source: str,
    database: str | None = None,
    schema: str | None = None,
    point: str = "none",
    count: int = 1,
    seconds: float | None = None,
    victim: str = "driver",
) -> None:
    """One night, in the child; never returns."""
    with (Path(folder) / "night.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    signal.alarm(120)
    status = 1
    try:
        POINTS[point](count)
        _log_readings(Path(folder) / READ_LOG)
        if seconds is not None:
            run.extract_shard = in_a_worker(run.extract_shard)  # type: ignore[assignment]
        House(Path(folder), Path(model), database, schema).night(source)
        status = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def in_a_worker(work: Callable[..., Any]) -> Callable[..., Any]:
    """Has a process of its own do what a function does, as schedulers do."""

    def call(*args: Any, **options: Any) -> Any:
        ours, theirs = multiprocessing.Pipe()
        child = os.fork()
        if child == 0:
            try:
                theirs.send(work(*args, **options))
            finally:
                os._exit(0)
        theirs.close()
        try:
            return ours.recv()
        except EOFError:
            raise RunError("the worker was lost") from None
        finally:
            os.waitpid(child, 0)

    return call


class Forks:
    """Nights in processes of their own, which are forked from one that has loaded everything."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, house: House, source: Path, **request: Any) -> int:
        """Runs a night and returns its exit status."""
        place = {name: str(getattr(house, name)) for name in ("folder", "model")}
        place |= {"database": house.database, "schema": house.schema, "source": str(source)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(place | request)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def forking() -> Iterator[Forks]:
    """Starts the process that nights are forked from."""
    command = [sys.executable, "-m", "tests.nightly.killing"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()


def _log_readings(path: Path) -> None:
    """Writes each text that was read to a file, a JSON string a line."""
    read = Reader.read

    def logged(self: Reader, texts: list[str]) -> Any:
        found = read(self, texts)
        with path.open("a") as log:
            log.writelines(f"{json.dumps(text)}\n" for text in texts)
        return found

    Reader.read = logged  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    main()
