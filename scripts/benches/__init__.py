"""One module per bench; ``scripts/bench NAME`` runs it."""
