"""How good a model is, how surely that is known, where it fails, and all of it on one page that a person can read."""
