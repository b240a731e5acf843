"""Alembic's entry: runs the revisions inside the transaction that ``ecner.storage.migrations`` has begun."""

from alembic import context

attributes = context.config.attributes
context.configure(connection=attributes["connection"], version_table_schema=attributes["schema"])
context.run_migrations()
