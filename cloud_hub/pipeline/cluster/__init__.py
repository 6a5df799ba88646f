"""Jobs on many machines, by Ray: training, the search for settings, scoring. Needs the extra ``ray``."""
