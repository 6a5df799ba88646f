"""Who is who, and what may be trusted."""
