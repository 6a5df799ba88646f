"""What a rollout brings: a version of a model, or of a package. The rest of a rollout does not care which."""

from typing import Protocol

from cloud_hub.core.model import Device
from cloud_hub.core.rollout_plan import Component, RolloutPlan
from cloud_hub.core.targets import Subject, subject_of
from cloud_hub.core.update_lines import Assignment
from cloud_hub.services import releases
from cloud_hub.services.fleet import board_named
from cloud_hub.services.packages import PackageService
from cloud_hub.services.registry import RegistryService, find_version
from cloud_hub.store.database import Tx
from protos.contract.ids import ModelName, TenantId
from protos.contract.twin import ModelAssignment, PackageAssignment


class Cargo(Protocol):
    """One version of one thing, for the devices of one tenant. It remembers what it chose: use it for one transaction."""

    def offer(self, tx: Tx) -> None:
        """Make it what devices may go to, once, as its rollout starts: two that did so with every device would overtake one
        another for ever. Raises NotFound, Invalid."""

    def ready(self, tx: Tx) -> bool:
        """Whether devices can verify it by now: what has just been offered waits to be signed."""

    def chosen(self, tx: Tx, device: Device) -> tuple[str, Assignment]:
        """The file for a device, and what that is called. Raises NotFound, NotReady, InvalidValue: there is none for it."""


class ModelCargo:
    def __init__(self, registry: RegistryService, tenant: TenantId, name: ModelName, version: int) -> None:
        self._registry = registry
        self._what = tenant, name, version
        self._known: dict[tuple[str, tuple[str, ...]], tuple[str, ModelAssignment]] = {}

    def offer(self, tx: Tx) -> None:
        self._registry.offer(tx, *self._what)

    def ready(self, tx: Tx) -> bool:
        return releases.released(tx, *self._what)

    def chosen(self, tx: Tx, device: Device) -> tuple[str, Assignment]:
        key = device.board, device.reported.runtimes if device.reported else ()
        if key not in self._known:
            variant, assignment = self._registry.assignment(find_version(tx, *self._what), board_named(key[0]), key[1])
            self._known[key] = variant.target, assignment
        return self._known[key]


class PackageCargo:
    def __init__(self, packages: PackageService, tenant: TenantId, component: Component, name: str, version: str) -> None:
        self._packages = packages
        self._what = tenant, component.kind, name, version
        self._known: dict[str, PackageAssignment] = {}

    def offer(self, tx: Tx) -> None:
        self._packages.offer(tx, *self._what)

    def ready(self, tx: Tx) -> bool:
        tenant, kind, name, version = self._what
        return releases.released(tx, tenant, name, version, subject=Subject(subject_of(kind)))

    def chosen(self, tx: Tx, device: Device) -> tuple[str, Assignment]:
        if device.board not in self._known:
            self._known[device.board] = self._packages.assignment(tx, *self._what, device.board)
        package = self._known[device.board]
        return f"{package.name}-{package.version}", package


class Hold:
    """Where cargo comes from."""

    def __init__(self, registry: RegistryService, packages: PackageService) -> None:
        self._registry = registry
        self._packages = packages

    def cargo(self, tenant: TenantId, plan: RolloutPlan) -> Cargo:
        """The plan names a version by number."""
        if plan.component is Component.MODEL:
            return ModelCargo(self._registry, tenant, ModelName(plan.name), int(plan.version))
        return PackageCargo(self._packages, tenant, plan.component, plan.name, plan.version)

    def cargo_of(self, tenant: TenantId, what: Assignment) -> Cargo:
        """The version of what a device has."""
        if isinstance(what, ModelAssignment):
            return ModelCargo(self._registry, tenant, what.name, what.version)
        return PackageCargo(self._packages, tenant, Component[what.kind.name], what.name, what.version)
