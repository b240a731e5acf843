"""What a flow that is run once, here, needs around it; for every flow of this package."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import (
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

_STARTUP_SECONDS = 180  # a busy two-core machine needs over half a minute to start Prefect's temporary server


@contextmanager
def run_here(*, debug: bool) -> Iterator[None]:
    """Lets a flow run in this process: without a server, a temporary one is started, and given time to.

    An error goes to the user once, as one message; with ``debug``, Prefect tells it too.
    """
    if not debug:
        for handler in logging.getLogger().handlers:  # Prefect's console; its server gets it all
            handler.addFilter(_is_no_failure)
    with temporary_settings(
        {
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: _STARTUP_SECONDS,
        }
    ):
        yield


def _is_no_failure(record: logging.LogRecord) -> bool:
    """Prefect tells an error once a task and twice a flow."""
    return record.levelno < logging.ERROR and "Failed(" not in record.getMessage()
