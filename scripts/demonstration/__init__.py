"""The closed loop, played once from an empty folder with the real programs."""
