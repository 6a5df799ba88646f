"""Hub errors speak the domain; one place (``cloud_hub.rpc.errors``) maps them to gRPC status."""


class HubError(Exception):
    """Root. The message names what, where and what to do; it is fit for a user to read."""


class NotFound(HubError):
    """No such thing, or not visible to the caller."""


class Conflict(HubError):
    """It exists already, or its state does not allow this."""


class Invalid(HubError):
    """The input cannot be used."""


class NotReady(HubError):
    """Something that must come first is missing."""


class Denied(HubError):
    """The caller may not do this."""


class Unauthenticated(Denied):
    """What the caller shows does not say who calls, or no longer may."""


class Exhausted(HubError):
    """A limit is reached."""


class Unavailable(Exhausted):
    """What the hub stands on is busy, full or away: the same may succeed later."""


class Fenced(Unavailable):
    """Another hub leads by now: nothing of this one's is written any more. The same may succeed there."""


class BadArtifact(HubError):
    """Bytes are not what their address says."""
