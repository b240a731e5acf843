"""The warehouse: its tables and views brought up to date, and its transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from ecner.config import redacted
from ecner.errors import RunError, UsageError
from ecner.storage.engine import (
    database_file,
    explained,
    for_reading,
    for_writing,
    open_engine,
    parse_url,
    use_write_ahead_log,
)
from ecner.storage.migrations import is_current, upgrade
from ecner.storage.tables import sql_tables
from ecner.storage.transaction import Reader, Transaction

_BACKENDS = {"sqlite", "postgresql"}


class Warehouse:
    """A database with the tables of ``ecner.schema``. Nothing is opened, or made, before it is used.

    Raises:
        UsageError: a URL or a schema that cannot be used.
    """

    def __init__(self, url: str, schema: str | None = None) -> None:
        self.schema = schema
        self._url = parse_url(url, schema)
        if self._url.get_backend_name() not in _BACKENDS:
            raise UsageError(
                f"warehouse.url is {redacted(str(self._url))}: expected SQLite or PostgreSQL, for which keys and "
                "views are made; a source may be any database"
            )
        self._engine = open_engine(self._url)
        self._metadata = sql_tables(schema)

    @property
    def location(self) -> str:
        """Where the tables are, for people: a file by its full path, a server without its password."""
        file = database_file(self._url)
        url = self._url if file is None else self._url.set(database=str(file.resolve()))
        return redacted(url.render_as_string(hide_password=True))

    @property
    def folder(self) -> Path | None:
        """The folder that the tables grow in; None on a server."""
        file = database_file(self._url)
        return None if file is None else file.absolute().parent

    def has(self, table_name: str) -> bool:
        """Whether there is such a table; a file that is not there is not made.

        Raises:
            RunError: the database cannot be reached.
        """
        file = database_file(self._url)
        if file is not None and not file.is_file():
            return False
        with self.connect() as reader:
            return sa.inspect(reader.connection).has_table(table_name, schema=self.schema)

    def migrate(self) -> None:
        """Makes or updates the tables and views in one transaction; writes nothing where they are current.

        Raises:
            UsageError: the database was written by a newer ecner.
            RunError: the database cannot be reached or written.
        """
        if file := database_file(self._url):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(f"cannot make the folder {file.parent}: {error.strerror}") from None
        with self.connect() as reader:
            if is_current(reader.connection, self.schema):
                return
        if file:
            with explained(self._url):
                use_write_ahead_log(self._engine)
        with self.begin() as transaction:
            upgrade(transaction.connection, self.schema)

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """A transaction: committed at the end of the block, rolled back by an error.

        Raises:
            RunError: an error of the database.
        """
        with explained(self._url), for_writing(self._engine).begin() as connection:
            yield Transaction(connection, self._metadata)

    @contextmanager
    def connect(self) -> Iterator[Reader]:
        """A reader that sees one state of the database throughout the block.

        Raises:
            RunError: an error of the database.
        """
        with explained(self._url), for_reading(self._engine).connect() as connection:
            yield Reader(connection, self._metadata)
