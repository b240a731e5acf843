"""What a flow that is run once, here, needs around it; for every flow of this package."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_UI_URL,
    temporary_settings,
)

from flows.orphans import adopt

_STARTUP_SECONDS = 180  # a busy two-core machine needs over half a minute to start Prefect's temporary server


@contextmanager
def run_here(*, debug: bool) -> Iterator[None]:
    """Lets a flow run in this process: without a server, a temporary one is started, and given time to.

    An error goes to the user once, as one message; with ``debug``, Prefect tells it too.
    """
    if not debug:
        for handler in logging.getLogger().handlers:  # Prefect's console; its server gets it all
            handler.addFilter(_is_no_failure)
    adopt()
    with temporary_settings(
        {
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: _STARTUP_SECONDS,
        }
    ):
        found = {} if PREFECT_API_URL.value() else {PREFECT_API_URL: _temporary_server(), PREFECT_UI_URL: ""}
        with temporary_settings(found):  # it has no pages to look at
            yield


def _temporary_server() -> str:
    """Starts the one server of this run, which ends with it: a worker process that knew of none would start its own."""
    from prefect.server.api.server import SubprocessASGIServer  # noqa: PLC0415 - the whole server: seconds

    server = SubprocessASGIServer()
    server.start()
    os.environ["PREFECT_API_URL"] = server.api_url
    return server.api_url


def _is_no_failure(record: logging.LogRecord) -> bool:
    """Prefect tells an error once a task and twice a flow."""
    return record.levelno < logging.ERROR and "Failed(" not in record.getMessage()
