"""The whole system under random faults, and an independent count of what became of every record."""
