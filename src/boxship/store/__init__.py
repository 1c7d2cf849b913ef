"""Durable metadata: one SQLite database, transactions with a global revision, names, migrations, change feed."""
