"""Alembic, run from the project's own sql folder on a connection whose transaction somebody else ends."""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from ecner.errors import UsageError
from ecner.resources import resource
from ecner.storage.views import are_current, create_views, drop_views

_LOCK = 0x65636E6572  # any number that other programs are unlikely to lock


def is_current(connection: sa.Connection, schema: str | None) -> bool:
    """Whether the tables and the views are those of this ecner.

    Raises:
        UsageError: the tables were made by a newer ecner.
    """
    return _has_head(connection, schema) and are_current(connection, schema)


def upgrade(connection: sa.Connection, schema: str | None) -> None:
    """Brings the tables and the views up to date, unless another process has just done it.

    Raises:
        UsageError: the tables were made by a newer ecner.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    if is_current(connection, schema):
        return
    if schema is not None and not sa.inspect(connection).has_schema(schema):
        connection.execute(sa.schema.CreateSchema(schema))
    drop_views(connection, schema)
    command.upgrade(_config(connection, schema), "head")
    create_views(connection, schema)


def _has_head(connection: sa.Connection, schema: str | None) -> bool:
    scripts = ScriptDirectory.from_config(_config(connection, schema))
    context = MigrationContext.configure(connection, opts={"version_table_schema": schema})
    found = context.get_current_heads()
    for revision in found:
        try:
            scripts.get_revision(revision)
        except CommandError:
            raise UsageError(
                f"the warehouse has tables of revision {revision}, this ecner knows up to "
                f"{scripts.get_current_head()}: it was written by a newer ecner; install that one"
            ) from None
    return set(found) == set(scripts.get_heads())


def _config(connection: sa.Connection, schema: str | None) -> Config:
    config = Config(attributes={"connection": connection, "schema": schema})
    # ConfigParser, inside, would take a % in the path for a placeholder.
    config.set_main_option("script_location", str(resource("sql/migrations")).replace("%", "%%"))
    return config
