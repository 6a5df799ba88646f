"""One package for each kind of problem: what it may be told (light), and ``task.py``, which needs torch."""
