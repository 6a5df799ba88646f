"""The two TUF repositories as values: what is signed, by which keys. No database, no clock of its own."""
