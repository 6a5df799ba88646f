"""Fixtures of all the hub's tests."""

from tests.hub.databases import database_kind, database_url, db, empty_url, migrated_file, postgres_server

__all__ = ["database_kind", "database_url", "db", "empty_url", "migrated_file", "postgres_server"]
