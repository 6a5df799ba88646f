"""Kill an agent at random moments of its updates, a thousand times. ``scripts/chaos updates --kills N --seed S``.

The agent is the real process, with real models, a real broker and a real gRPC hub. It is killed at a random time, in a state
that its hub has just heard of, or before a random durable step of its own; every other time the power fails, too, so that
whatever was not synced may be lost. ``ledger.WRONGS`` says what must never be found.
"""

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import power
from tests.chaos.ledger import Findings
from tests.chaos.lives import NO_FSYNC, NO_JOURNAL, Counts, Lives
from tests.chaos.victim import Victim
from tests.conformance.hub import Hub

log = logging.getLogger("chaos")

EXAMPLES = 3
SAY_EVERY = 20  # kills


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    seed: int
    control: str
    counts: Counts
    findings: Findings

    @property
    def good(self) -> bool:
        return self.findings.good

    def as_json(self) -> dict[str, Any]:
        wrong, counts = self.findings.wrong, self.counts
        return {
            "good": self.good,
            "seed": self.seed,
            "control": self.control,
            "kills": self.findings.kills,
            "power_cuts": counts.power_cuts,
            "cuts_that_took_something": counts.cuts_that_took_something,
            "boots": counts.boots,
            **{name: len(cases) for name, cases in wrong.items()},
            **{f"{name}_examples": cases[:EXAMPLES] for name, cases in wrong.items() if cases},
            "called_off": counts.called_off,
            "updates": dict(sorted(self.findings.updates.items())),
            "killed_in": dict(sorted(counts.killed_in.items())),
        }


def run(folder: Path, hub: Hub, *, kills: int, seed: int, control: str = "", name: str = "victim") -> Outcome:
    """A ``control`` is an agent that must not pass; it ends with the first thing that is found wrong."""
    victim = Victim(folder / name, power.build(folder))
    try:
        lives = Lives(hub, victim, name, random.Random(seed), control=control)
        while lives.findings.kills < kills and (lives.findings.good or not control):
            lives.live()
            if lives.findings.kills % SAY_EVERY == 0:
                log.info("%d kills, %s", lives.findings.kills, dict(lives.findings.updates))
        if not control:
            lives.settle()
    finally:
        victim.close()
    return Outcome(seed=seed, control=control, counts=lives.counts, findings=lives.findings)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos updates", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--control", choices=(NO_FSYNC, NO_JOURNAL), default="", help="an agent that must not pass")
    parser.add_argument("--keep", type=Path, help="leave logs and data in this folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos-updates-"))
    folder.mkdir(parents=True, exist_ok=True)
    hub = Hub(folder)
    try:
        outcome = run(folder, hub, kills=options.kills, seed=options.seed, control=options.control)
    finally:
        hub.close()
    sys.stdout.write(json.dumps(outcome.as_json(), indent=2) + "\n")
    if outcome.good and options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    elif not outcome.good:
        log.error("logs and data are in %s", folder)
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
