"""What can be wrong with a value that crosses the border."""


class ContractError(ValueError):
    """Root of everything this package raises; the message names what, where and the bound that was broken."""


class InvalidId(ContractError):
    """A name that is not an id: see ``ids``."""


class InvalidValue(ContractError):
    """A value outside what its type allows."""


class InvalidMessage(ContractError):
    """Bytes from the wire that are not the message they should be."""


class InvalidTopic(ContractError):
    """A topic outside the tree of ``topics``."""
