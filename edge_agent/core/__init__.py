"""Values, ports and errors every stage shares."""
