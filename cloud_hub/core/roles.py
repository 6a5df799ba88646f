"""How the roles of users stand to each other: viewer below labeller, operator and releaser, and those below admin.

The three in the middle are not above one another, so what a token for one of them is worth to a user who is another by now is
what they share: to read.
"""

from cloud_hub.core.model import Role

USERS = frozenset({Role.VIEWER, Role.LABELLER, Role.OPERATOR, Role.RELEASER, Role.ADMIN})


def within(inner: Role, outer: Role) -> bool:
    """Whether whoever is ``outer`` may do all that ``inner`` may. Both are users' roles."""
    return inner is outer or inner is Role.VIEWER or outer is Role.ADMIN


def shared(one: Role, other: Role) -> Role:
    """The highest role within both."""
    if within(one, other):
        return one
    return other if within(other, one) else Role.VIEWER
