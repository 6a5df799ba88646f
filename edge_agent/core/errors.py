"""Agent errors say what the caller should do."""


class AgentError(Exception):
    """Root. The message names what, where and what to do; it is fit for a user to read."""


class Retryable(AgentError):
    """The same call may succeed later: wait and try again."""


class Permanent(AgentError):
    """The same call will fail again: give up on this input."""


class ConfigError(Permanent):
    """The configuration cannot be used."""


class SourceUnavailable(Retryable):
    """The camera or folder gives no frames now."""


class BadFrame(Permanent):
    """One frame cannot be used; the next one may be fine."""


class BadModel(Permanent):
    """A model file cannot be loaded, or does not do what its manifest says."""


class InferenceError(Retryable):
    """One inference failed; the model may still be good."""


class LinkDown(Retryable):
    """The hub or the broker cannot be reached."""


class Refused(Permanent):
    """The hub said no."""


class Corrupt(Retryable):
    """Downloaded bytes are not what was asked for."""


class DiskFull(Retryable):
    """No room to write."""
