"""The life of one update on one device, as a table both sides share."""

from enum import IntEnum


class UpdateState(IntEnum):
    """Numbers are the wire's (``twin.proto``)."""

    OFFERED = 1  # desired twin seen, nothing done yet
    FETCHING = 2  # manifest and artifact are being downloaded
    STAGED = 3  # whole and verified in the other slot
    TRIAL = 4  # activated, on probation
    COMMITTED = 5
    ROLLED_BACK = 6  # was active, the previous version runs again
    FAILED = 7  # never became active
    SUPERSEDED = 8  # a newer desired generation took over


TRANSITIONS: dict[UpdateState, frozenset[UpdateState]] = {
    UpdateState.OFFERED: frozenset({UpdateState.FETCHING, UpdateState.FAILED, UpdateState.SUPERSEDED}),
    UpdateState.FETCHING: frozenset({UpdateState.STAGED, UpdateState.FAILED, UpdateState.SUPERSEDED}),
    UpdateState.STAGED: frozenset({UpdateState.TRIAL, UpdateState.FAILED, UpdateState.SUPERSEDED}),
    UpdateState.TRIAL: frozenset({UpdateState.COMMITTED, UpdateState.ROLLED_BACK}),
    UpdateState.COMMITTED: frozenset(),
    UpdateState.ROLLED_BACK: frozenset(),
    UpdateState.FAILED: frozenset(),
    UpdateState.SUPERSEDED: frozenset(),
}

FINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)


def may_follow(state: UpdateState, following: UpdateState) -> bool:
    return following in TRANSITIONS[state]
