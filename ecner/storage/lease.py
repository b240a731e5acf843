"""One run at a time: a row of the warehouse that names who may write, until when.

A holder that dies is followed at once where this machine can see that it died, else when its time is over. What keeps
the tables safe is neither clock nor heartbeat but the token, which grows with each holder: a run makes sure inside of
its own transaction that it is still the last one.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import polars as pl
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from ecner.errors import LeaseError, RunError
from ecner.retry import retried
from ecner.schema import TABLES
from ecner.storage.process import is_dead, shown, this_process
from ecner.storage.transaction import Transaction
from ecner.storage.warehouse import Warehouse

_log = logging.getLogger(__name__)
_POLL_SECONDS = 1.0
_ROW = {"name": "run"}


class Lease:
    """The right of the run ``holder`` to write to a warehouse, for ``seconds`` beyond each sign of life.

    Nothing happens before it is acquired, best as a context manager. From then on a thread gives the signs of life.
    Where another run holds the warehouse, acquiring waits for ``wait_seconds``.
    """

    def __init__(self, warehouse: Warehouse, holder: str, seconds: float, *, wait_seconds: float = 0) -> None:
        self.holder, self.token = holder, 0
        self._warehouse, self._seconds, self._wait_seconds = warehouse, seconds, wait_seconds
        self._released, self._lost, self._in_transaction = threading.Event(), threading.Event(), threading.Event()

    @property
    def is_lost(self) -> bool:
        """Whether another run is known to have taken over: nothing of this one can be published any more."""
        return self._lost.is_set()

    def acquire(self) -> None:
        """Waits for the lease, and takes it.

        Raises:
            LeaseError: another run holds it still.
            RunError: the warehouse failed.
        """
        attempts = Retrying(
            stop=stop_after_delay(self._wait_seconds),
            wait=wait_fixed(_POLL_SECONDS),
            retry=retry_if_exception_type(LeaseError),
            reraise=True,
        )
        self.token = attempts(lambda: retried(self._take))
        threading.Thread(target=self._stay, name=f"lease of {self.holder}", daemon=True).start()

    def check(self) -> None:
        """Stops a run that has lost its lease; costs nothing, so that it may be asked often.

        Raises:
            LeaseError: another run is known to have taken over.
        """
        if self.is_lost:
            raise LeaseError(
                f"another run has taken over the warehouse {self._warehouse.location}: this one, {self.holder}, gave "
                "no sign of life in time, and nothing more of it is published; run again"
            )

    @contextmanager
    def held(self, transaction: Transaction) -> Iterator[None]:
        """Holds on for a block that writes, first and last in its transaction, however long it takes.

        Whoever wants to take over waits for the end of the transaction, and then finds that this run has time left.

        Raises:
            LeaseError: another run has taken over; nothing of the transaction may be committed.
        """
        self._in_transaction.set()
        try:
            self._hold(transaction)
            yield
            self._hold(transaction)
        finally:
            self._in_transaction.clear()

    def release(self) -> None:
        """Lets the next run in.

        Raises:
            RunError: the warehouse failed; the lease ends with this process, or by its time.
        """
        self._released.set()
        with self._warehouse.begin() as transaction:
            nobodys = {"holder": None, "process": None, "expires_at": transaction.now()}
            transaction.update("leases", self._mine, nobodys)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            self.release()
        except RunError as error:
            # What the block came to, good or bad, is what counts.
            _log.warning("The lease could not be released, it ends by itself: %s", error)

    @property
    def _mine(self) -> Mapping[str, object]:
        return {**_ROW, "holder": self.holder, "token": self.token}

    def _take(self) -> int:
        with self._warehouse.connect() as reader:  # first without a lock: a run that publishes has it for minutes
            for row in reader.read("leases", where=_ROW).to_dicts():
                self._refuse_held(row, reader.now())
        with self._warehouse.begin() as transaction:
            transaction.append_missing("leases", _nobodys(transaction.now()))
            transaction.lock("leases", _ROW)
            row, now = transaction.read("leases", where=_ROW).row(0, named=True), transaction.now()
            self._refuse_held(row, now)
            token = int(row["token"]) + 1
            mine = {"holder": self.holder, "token": token, "process": this_process()}
            transaction.update("leases", _ROW, {**mine, "expires_at": now + timedelta(seconds=self._seconds)})
        return token

    def _refuse_held(self, row: Mapping[str, Any], now: datetime) -> None:
        is_own = (row["holder"], row["process"]) == (self.holder, this_process())  # taken by a commit of unknown end
        if is_own or row["holder"] is None or row["expires_at"] <= now or is_dead(row["process"]):
            return
        raise LeaseError(
            f"the warehouse {self._warehouse.location} is held by the run {row['holder']} ({shown(row['process'])}) "
            f"until {row['expires_at']:%Y-%m-%d %H:%M:%S} UTC, and for as long as it lives: run again when it has "
            "ended, or let run.wait_seconds wait for it"
        )

    def _stay(self) -> None:
        """Gives signs of life until the lease is released or lost; a failing warehouse is tried again."""
        pause = self._seconds / 3
        while not self._released.wait(pause) and not self.is_lost:
            pause = self._seconds / 3
            if self._in_transaction.is_set():  # which has locked the row, and extends it
                continue
            try:
                with self._warehouse.begin() as transaction:
                    is_mine = self._extend(transaction)
            except RunError as error:
                _log.warning("The lease could not be extended, trying again: %s", error)
                pause = self._seconds / 10
            else:
                if not is_mine and not self._released.is_set():
                    self._lost.set()

    def _hold(self, transaction: Transaction) -> None:
        if not self._extend(transaction):
            self._lost.set()
        self.check()

    def _extend(self, transaction: Transaction) -> bool:
        expires_at = transaction.now() + timedelta(seconds=self._seconds)
        return transaction.update("leases", self._mine, {"expires_at": expires_at}) == 1


def _nobodys(now: datetime) -> pl.DataFrame:
    row = {**_ROW, "holder": None, "token": 0, "expires_at": now, "process": None}
    return pl.DataFrame([row], schema=TABLES["leases"].polars_schema)
