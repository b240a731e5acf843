"""A real PostgreSQL server in a temporary folder, used under the rights that sql/postgresql_rights.sql gives."""

import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from ecner.resources import resource

JOB, READER = 'ecner "job" 100%', "ecner reader"
_numbers = count()


class Server:
    """A server that can be killed and started again."""

    def __init__(self, server: Any, psql: Path) -> None:
        self._server, self._psql = server, psql
        self.admin = sa.make_url(server.get_uri())

    def url(self, role: str = JOB, database: str = "postgres") -> str:
        """The address of a database as a role sees it."""
        return self.admin.set(username=role, database=database).render_as_string(hide_password=False)

    def give_rights(self, schema: str, database: str = "postgres") -> None:
        """Runs the project's script as an administrator does."""
        variables = [part for pair in (f"schema={schema}", f"job={JOB}", f"reader={READER}") for part in ("-v", pair)]
        script = ["-X", "-q", "-f", str(resource("sql/postgresql_rights.sql"))]
        uri = self.admin.set(database=database).render_as_string(hide_password=False)
        subprocess.run([self._psql, uri, *variables, *script], check=True)

    def new_schema(self) -> str:
        """A schema of a nasty name, which the job may use."""
        schema = f'Night "{next(_numbers)}" 100%'
        self.give_rights(schema)
        return schema

    def kill(self) -> None:
        """Kills all of the server at once, as a lack of power would."""
        postmaster = psutil.Process(self._server.get_pid())
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)

    def start(self) -> None:
        """Starts it again."""
        self._server.ensure_postgres_running()


@contextmanager
def running_server() -> Iterator[Server]:
    """A server of its own, whose job may use the default schema too."""
    with tempfile.TemporaryDirectory(prefix="ecner-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        with warnings.catch_warnings(action="ignore"):
            pgserver = pytest.importorskip("pgserver", reason="no pgserver wheel for this platform")
        raw = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        raw.psql("alter system set fsync = off")
        raw.psql("select pg_reload_conf()")
        server = Server(raw, Path(pgserver.__file__).parent / "pginstall" / "bin" / "psql")
        server.give_rights("public")
        yield server
        raw.cleanup()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL server for all tests of a process."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_url(postgresql_server: Server) -> str:
    """The server as the job sees it, which may make tables in the default schema."""
    return postgresql_server.url()
