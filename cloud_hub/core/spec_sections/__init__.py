"""The sections of a training specification that are the same for every task, each a frozen dataclass, valid by construction."""
