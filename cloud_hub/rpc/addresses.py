"""What the hub tells others about where to find it."""

from dataclasses import dataclass

from cloud_hub.core.ports import BrokerAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    hub: str  # host:port, mTLS
    enroll: str  # host:port, server-side TLS
    tokens: str  # host:port, server-side TLS and a bearer token with each call
    broker: BrokerAddress
