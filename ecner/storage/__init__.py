"""The warehouse: tables, migrations, transactions, views, read-only queries. SQLAlchemy stays in here."""
