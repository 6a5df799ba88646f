"""The right to fetch, asked of both repositories for one anchor and one generation."""

from dataclasses import dataclass

from edge_agent.core.ports import Hub
from edge_agent.update.surroundings import Anchor, Approved, ApprovedPackage, Verifier
from protos.contract.twin import ModelAssignment, PackageAssignment


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredPermit:
    """See ``installer.Permit``."""

    verifier: Verifier
    anchor: Anchor
    generation: int  # of the newest desired twin

    def model(self, hub: Hub, model: ModelAssignment) -> Approved:
        return self.verifier.check(hub, self.anchor, model, self.generation)

    def package(self, hub: Hub, package: PackageAssignment) -> ApprovedPackage:
        return self.verifier.check_package(hub, self.anchor, package, self.generation)
