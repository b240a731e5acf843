"""The analysts' views: plain SQL files, one view each, created unchanged on every database."""

import hashlib
import re
from graphlib import TopologicalSorter

import sqlalchemy as sa

from ecner.errors import UsageError
from ecner.resources import resource
from ecner.storage.engine import look_up_names_in

# A view of one row that says which definitions the others were made from.
_DIGEST_VIEW = "views_digest"
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)


def view_names() -> list[str]:
    """Names of the views, those that others select from first."""
    bodies = {name: _COMMENT.sub("", _definition(name)) for name in _files()}
    uses = {
        name: [other for other in bodies if other != name and re.search(rf"\b{other}\b", body)]
        for name, body in bodies.items()
    }
    return list(TopologicalSorter(uses).static_order())


def view_header(name: str) -> str:
    """The comment that opens a view's file: what a row is, what each column means, an example query.

    Raises:
        UsageError: there is no such view.
    """
    lines = _definition(name).splitlines()
    first_code = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(line.removeprefix("--").removeprefix(" ") for line in lines[:first_code])


def create_views(connection: sa.Connection, schema: str | None) -> None:
    """Creates every view, in place of one of the same name."""
    if schema is not None:
        look_up_names_in(schema, connection)
    for name in view_names():
        for statement in _statements(name):
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    _drop(_DIGEST_VIEW, connection, schema)
    digest_view = _quoted(_DIGEST_VIEW, connection, schema)
    connection.exec_driver_sql(f"create view {digest_view} as select '{_digest()}' as digest")


def drop_views(connection: sa.Connection, schema: str | None) -> None:
    """Drops every view that exists, so that the tables below may change."""
    for name in (_DIGEST_VIEW, *reversed(view_names())):
        _drop(name, connection, schema)


def are_current(connection: sa.Connection, schema: str | None) -> bool:
    """Whether the views were created from the files as they are now."""
    if not sa.inspect(connection).has_table(_DIGEST_VIEW, schema=schema):
        return False
    view = sa.table(_DIGEST_VIEW, sa.column("digest", sa.Text), schema=schema)
    return connection.scalar(sa.select(view.c.digest)) == _digest()


def _files() -> list[str]:
    return sorted(path.stem for path in resource("sql/views").glob("*.sql"))


def _definition(name: str) -> str:
    file = resource("sql/views") / f"{name}.sql"
    if not (name.isidentifier() and file.is_file()):
        raise UsageError(f"no view {name!r}: expected one of {', '.join(_files())}")
    return file.read_text("utf-8")


def _statements(name: str) -> list[str]:
    return [part for part in _COMMENT.sub("", _definition(name)).split(";") if part.strip()]


def _digest() -> str:
    return hashlib.sha256("\0".join(_definition(name) for name in _files()).encode()).hexdigest()


def _drop(name: str, connection: sa.Connection, schema: str | None) -> None:
    connection.exec_driver_sql(f"drop view if exists {_quoted(name, connection, schema)}")


def _quoted(name: str, connection: sa.Connection, schema: str | None) -> str:
    """The name as drivers take it in a statement with parameters, none here: psycopg makes one % of two."""
    return connection.dialect.identifier_preparer.format_table(sa.table(name, schema=schema))
