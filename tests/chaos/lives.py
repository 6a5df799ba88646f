"""One device through its deaths."""

import logging
import random
from collections import Counter
from dataclasses import dataclass, field

from edge_agent.app.cli import RESTART
from edge_agent.update.record import Component
from protos.contract.twin import PackageKind, ReportedTwin
from protos.contract.update import FINAL, UpdateState
from tests.agent import models
from tests.chaos.ledger import Findings, Ledger
from tests.chaos.settings import OWN, Setting, Settings
from tests.chaos.versions import Catalog, Nature, Version, equipped, pointed
from tests.chaos.victim import BOOT_S, Victim
from tests.conformance.hub import Hub

log = logging.getLogger("chaos")

NATURES = [Nature.GOOD] * 6 + [Nature.FLAWED, Nature.WRONG, Nature.DAMAGED, Nature.DEADLY]
PLANS = ("boot", "time", "time", "step", "step", "state", "state", "state")  # when a life ends
STEPS_ON = [("/models/",), ("/updates.sqlite",), ("/current", "/.current", "slot.json", "package.json"), ("/config/",), ()]
COMPONENTS = (Component.MODEL, Component.CONFIG)
ON_THE_WAY = [state for state in UpdateState if state not in FINAL]
NEWER_ALREADY, CALLED_OFF, AT_REST, OLDER = 0.05, 0.05, 0.2, 0.15  # chances
NO_FSYNC, NO_JOURNAL = "no fsync", "no journal"
SETTLED_S = 120.0
DEADLY_LIVES = 8  # that a version may take: it has 3 attempts, but a life may end before the next begins


@dataclass(slots=True, kw_only=True)
class Counts:
    power_cuts: int = 0
    cuts_that_took_something: int = 0
    boots: int = 0  # after which it inferred
    called_off: int = 0
    killed_in: Counter[str] = field(
        default_factory=Counter
    )  # component and state of its newest update, by the journal on the disk


class Lives:
    def __init__(self, hub: Hub, victim: Victim, name: str, dice: random.Random, *, control: str = "") -> None:
        """``control``: the agent is made one that must not pass, NO_FSYNC or NO_JOURNAL."""
        self._hub, self._victim, self._name, self._dice, self._control = hub, victim, name, dice, control
        self.findings, self.counts = Findings(), Counts()
        self._catalog, self._settings = Catalog(hub), Settings(hub)
        victim.equip()
        hub.identity(name, victim.data_dir)
        hub.skip(name)  # above the generation of what it was equipped with
        self._model: Version = equipped(self._catalog, models.files())  # wanted
        self._setting = OWN
        self._ledgers = {
            Component.MODEL: Ledger(self.findings, 1, self._model),
            Component.CONFIG: Ledger(self.findings, 0, OWN),
        }
        self._heard = 0  # twins
        self._heard_of = ""  # the life that the newest of them is from
        self._downs = 0  # times that the newest deadly thing has taken the device down

    # -- the hub ----------------------------------------------------------------------------------------------------------

    def ask(self, component: Component, nature: Nature | None = None) -> None:
        older = [version for version in self._catalog.versions[1:] if version.good]
        nature = nature or self._dice.choice(NATURES)
        if component is Component.CONFIG:
            self._setting = self._settings.make(nature)
        elif older and nature is Nature.GOOD and self._dice.random() < OLDER:
            self._model = self._dice.choice(older)
        else:
            self._model = self._catalog.make(nature)
        self._downs = 0
        setting = self._setting
        packages, targets = ([setting.assignment], [self._settings.release(setting)]) if setting is not OWN else ([], [])
        generation = self._hub.desire_all(self._name, self._model.assignment, packages, targets)
        for each, ledger in self._ledgers.items():
            if each is not component:
                ledger.carry(generation)
        self._ledgers[component].ask(generation, self._setting if component is Component.CONFIG else self._model)

    @property
    def _pending(self) -> bool:
        return any(ledger.pending for ledger in self._ledgers.values())

    def _ask_or_not(self) -> None:
        chance, component = self._dice.random(), self._dice.choice(COMPONENTS)
        if len(self._catalog.versions) == 1:
            component = Component.MODEL  # what a device was equipped with is in no repository: it cannot be asked for
        if self._pending and chance < CALLED_OFF:
            self.counts.called_off += 1
            self._hub.call_off(self._name)
        elif chance < CALLED_OFF + NEWER_ALREADY if self._pending else chance >= AT_REST:
            self.ask(component)

    def listen(self) -> list[tuple[Component, int, UpdateState]]:
        """Take in what the device has reported since; its newest word about its updates, if it has spoken in this life."""
        twins = self._hub.devices[self._name].reported
        new, self._heard = twins[self._heard :], len(twins)
        for twin in new:
            if twin.boot_id != self._heard_of:
                self._heard_of = twin.boot_id
                self._ledgers[Component.CONFIG].runs(self._settings.running(twin.packages))
            for component, generation, state in _updates(twin):
                self._ledgers[component].hear(generation, state)
        return _updates(twins[-1]) if twins and twins[-1].boot_id == self._victim.life else []

    def _reached(self, wanted: UpdateState) -> bool:
        """What was asked for last is in that state, or was."""
        return any(self._ledgers[component].is_newest(it) and state >= wanted for component, it, state in self.listen())

    def _heard_end(self) -> bool:
        self.listen()
        return not self._pending

    # -- a life -----------------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """To its end, with a look at what it leaves."""
        victim, dice = self._victim, self._dice
        self._ask_or_not()
        if self._control == NO_JOURNAL:
            victim.forget_journal()
        plan = dice.choice(PLANS)
        step, only = (dice.randrange(1, 50), dice.choice(STEPS_ON)) if plan == "step" else (0, ())
        victim.born(lies=self._control == NO_FSYNC, at=step, only=only)
        if plan == "boot":
            victim.lives_until(self._deadly_runs, dice.uniform(0.0, 1.2 * victim.slowness))
        elif self._boots():
            self._spend(plan)
        self._die()

    def _boots(self) -> bool:
        """It infers, and with what it may. False where it came to its end before that."""
        victim = self._victim
        if not victim.lives_until(victim.infers, BOOT_S):
            if victim.alive:
                self.findings.add("bricked", f"no inference within {BOOT_S:.0f} s: {victim.last_words()}")
            return False
        self.counts.boots += 1
        self.listen()
        running = self._catalog.named(victim.started_with)
        if running is not None:
            self._ledgers[Component.MODEL].runs(running)
        return True

    def _spend(self, plan: str) -> None:
        victim, dice = self._victim, self._dice
        if any(it.nature is Nature.DEADLY and self._ledgers[of].pending for of, it in self._wanted()):
            self._go_down()
        elif plan == "state":
            state = dice.choice(ON_THE_WAY)
            victim.lives_until(lambda: self._reached(state), 4.0 * victim.slowness)
            victim.lives(dice.choice((0.0, dice.uniform(0.0, 0.5 * victim.slowness))))
        else:
            victim.lives(dice.uniform(0.0, 4.0 * victim.slowness))

    def _wanted(self) -> list[tuple[Component, Version | Setting]]:
        return [(Component.MODEL, self._model), (Component.CONFIG, self._setting)]

    def _go_down(self) -> None:
        """The device goes down as soon as what is deadly runs, whatever life it is."""
        down = self._victim.lives_until(self._deadly_runs, 6.0 * self._victim.slowness)
        self._downs += down
        if self._downs > DEADLY_LIVES:
            self.findings.add("bricked", f"{self._model} or {self._setting} has taken the device down {self._downs} times")

    def _deadly_runs(self) -> bool:
        if self._model.nature is Nature.DEADLY and self._victim.started_with == self._model.digest:
            return True
        deadly = [of for of, it in self._wanted() if it.nature is Nature.DEADLY]
        return any(
            of in deadly and self._ledgers[of].is_newest(it) and state is UpdateState.TRIAL for of, it, state in self.listen()
        )

    def _die(self) -> None:
        victim, counts = self._victim, self.counts
        if victim.ended_with not in (None, -9, RESTART):  # RESTART: since the last look, and nobody starts it again now
            self.findings.add("died", f"with {victim.ended_with}: {victim.last_words()}")
        lost = victim.dies(self._dice if self._dice.random() < 0.5 else None)
        self.findings.kills += 1
        if lost is not None:
            counts.power_cuts += 1
            counts.cuts_that_took_something += bool(lost.names or lost.files)
        self.listen()
        self._look()

    def _look(self) -> None:
        """At what is on the disk."""
        data_dir, journals = self._victim.data_dir, {each: self._victim.journal(each.value) for each in self._ledgers}
        for component, journal in journals.items():
            state = journal[max(journal)].name if journal else "no journal"
            self.counts.killed_in[f"{component.value} {state}"] += 1
        known = journals if self._control != NO_JOURNAL else {}
        current = pointed(data_dir / "models")
        there = [self._catalog.whole(slot) for slot in sorted((data_dir / "models" / "slots").glob("*"))]
        started = self._catalog.whole(current) if current is not None else None
        self._ledgers[Component.MODEL].disk(started, there, known.get(Component.MODEL))
        folder = data_dir / "config"
        kept = [OWN, *(self._settings.whole(folder / name) for name in "ab")]
        self._ledgers[Component.CONFIG].disk(self._settings.pointed(folder), kept, known.get(Component.CONFIG))

    def settle(self) -> None:
        """Left alone, it still takes a good version of everything."""
        for component in COMPONENTS:  # both before it lives: nobody would take it down any more for what is deadly
            self.ask(component, Nature.GOOD)
        self._victim.born()
        self._victim.lives_until(self._heard_end, SETTLED_S)
        for component, ledger in self._ledgers.items():
            if ledger.outcome is not UpdateState.COMMITTED:
                words = self._victim.last_words()
                self.findings.add("bricked", f"left alone, it does not update its {component.value}: {words}")
        self._victim.dies(None)


def _updates(twin: ReportedTwin) -> list[tuple[Component, int, UpdateState]]:
    configs = [it for it in twin.package_updates if it.package.kind is PackageKind.CONFIG]
    found = [(Component.CONFIG, it.generation, it.state) for it in configs]
    return found + ([(Component.MODEL, twin.update.generation, twin.update.state)] if twin.update is not None else [])
