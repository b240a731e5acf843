"""Another try for what fails in passing: a lost connection, a lock, a busy store."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ecner.errors import TransientError

_log = logging.getLogger(__name__)
_ATTEMPTS = 4
_LONGEST_SECONDS = 30.0
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def retried(
    work: Callable[[], _Result], *, attempts: int = _ATTEMPTS, longest_seconds: float = _LONGEST_SECONDS
) -> _Result:
    """What ``work`` returns, which is begun anew after errors in passing, with ever longer pauses of random length.

    Random, so that runs which failed together do not come back together.

    Raises:
        TransientError: the last attempt failed like those before; any other error comes out at once.
    """
    attempt = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=min(1, longest_seconds), max=longest_seconds),
        retry=retry_if_exception_type(TransientError),
        before_sleep=_report,
        reraise=True,
    )
    return attempt(work)


def patiently(work: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorator: does again what failed for a moment, beyond the attempts of the single requests to a store."""

    @wraps(work)
    def again(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        return retried(lambda: work(*args, **kwargs), attempts=_ATTEMPTS - 1, longest_seconds=_LONGEST_SECONDS / 3)

    return again


def _report(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0
    _log.warning("Attempt %d failed, the next one follows in %.1f s: %s", state.attempt_number, pause, error)
