"""The database of a service: engine, transactions, migrations.

Owns how a database is opened, locked and brought up to date. Does not own any table's meaning: each package states its
own tables and statements in its ``store.py``.
"""
