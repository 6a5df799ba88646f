"""Agent errors say what the caller should do."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # workers import this module, and nothing of the twin
    from protos.contract.twin import Fit


class AgentError(Exception):
    """Root. The message names what, where and what to do; it is fit for a user to read."""


class Retryable(AgentError):
    """The same call may succeed later: wait and try again."""


class Permanent(AgentError):
    """The same call will fail again: give up on this input."""


class Restart(AgentError):
    """The agent has ended in order to be started again: with another configuration, agent or image of the board."""


class ConfigError(Permanent):
    """The configuration cannot be used."""


class SourceUnavailable(Retryable):
    """The camera or folder gives no frames now."""


class BadFrame(Permanent):
    """One frame cannot be used; the next one may be fine."""


class BadModel(Permanent):
    """A model file cannot be loaded, or does not do what its manifest says."""


class Unfit(BadModel):
    """A model runs here, but not as it did when it was verified; ``fit`` is what was measured."""

    def __init__(self, message: str, fit: "Fit") -> None:
        super().__init__(message)
        self.fit = fit


class BadPackage(Permanent):
    """A configuration, agent or firmware image that cannot be used on this device."""


class InferenceError(Retryable):
    """One inference failed; the model may still be good."""


class LinkDown(Retryable):
    """The hub or the broker cannot be reached."""


class Unapproved(Retryable):
    """An admin has to approve this device's key first."""


class Refused(Permanent):
    """The hub said no."""


class Corrupt(Retryable):
    """Downloaded bytes are not what was asked for."""


class DiskFull(Retryable):
    """No room to write."""


class Absent(Permanent):
    """The hub has nothing of that name."""


class NoTrust(Permanent):
    """The device has no trust roots, or they cannot be read: it takes no update until it has some."""


class Untrusted(AgentError):
    """What a release says about itself cannot be believed. Nothing of it was used; a later try may find better."""


class BadSignature(Untrusted):
    """Signed with a wrong key, by too few of the right ones, or not readable as signed metadata."""


class RollbackRefused(Untrusted):
    """Metadata older than what this device has seen."""


class Frozen(Untrusted):
    """Metadata that has expired: somebody, or a dead hub, keeps the newer ones back."""


class MixedUp(Untrusted):
    """Metadata files that do not belong together."""


class Endless(Untrusted):
    """More bytes than were announced or are allowed."""


class TooSlow(Untrusted):
    """Fewer bytes in a time than are allowed."""


class UnknownTarget(Untrusted):
    """The director names a file that the image repository does not have."""


class AlteredTarget(Untrusted):
    """Director and image repository do not mean the same bytes."""


class WrongHardware(Untrusted):
    """The file is for other boards than this one."""


class ForeignDevice(Untrusted):
    """Director metadata made for another device or tenant."""


class Replayed(Untrusted):
    """Director metadata that answers another question: other nonce or generation than asked for."""


class ReleaseRollback(Untrusted):
    """A release older than the one this device has committed."""
