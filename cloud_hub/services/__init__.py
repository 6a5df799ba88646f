"""Use cases: they know no transport and no SQL."""
