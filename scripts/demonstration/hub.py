"""What the demo asks of the hub, all of it through ``hubctl``; and following a job and a rollout to their end."""

import time
from dataclasses import dataclass
from typing import Any

from scripts.demonstration.processes import Hubctl, Programs
from scripts.demonstration.timeline import StepFailed, Timeline, wait_for

JOB_S, ROLLOUT_S = 420, 90  # seconds after which something hangs


@dataclass(slots=True)
class Hub:
    """Each question first looks whether a program has died, and raises StepFailed then."""

    model: str
    programs: Programs
    hubctl: Hubctl
    timeline: Timeline

    def answers(self) -> bool:
        self.programs.check()
        if not self.hubctl.config.exists():
            return False
        try:
            self.hubctl("device", "list")
        except StepFailed:
            return False
        return True

    def rollout(self, id: str) -> dict[str, Any]:
        self.programs.check()
        found: dict[str, Any] = self.hubctl("rollout", "get", id)
        return found

    def running(self) -> set[int]:
        """Versions that the devices say they run."""
        self.programs.check()
        devices = self.hubctl("device", "list")
        return {int(device["reported"]["model"]["version"]) for device in devices}

    def online(self) -> int:
        self.programs.check()
        return sum(device["presence"] == "online" for device in self.hubctl("device", "list"))

    def episodes(self) -> list[dict[str, Any]]:
        self.programs.check()
        found: list[dict[str, Any]] = self.hubctl("drift", "episodes", "--model", self.model)
        return found

    def alerts(self, rule: str) -> list[dict[str, Any]]:
        self.programs.check()
        found: list[dict[str, Any]] = self.hubctl("alert", "list", "--all", "--rule", rule)
        return found

    def follow_job(self, job_id: str) -> dict[str, Any]:
        """Until it is published; raises StepFailed where it ends otherwise or hangs."""
        stage, started = "", time.monotonic()
        while True:
            self.programs.check()
            job: dict[str, Any] = self.hubctl("job", "get", job_id)
            if job["stage"] != stage and job["stage"]:
                stage = job["stage"]
                self.timeline.say("training", stage)
            if job["state"] in ("published", "rejected", "failed", "cancelled"):
                break
            if time.monotonic() - started > JOB_S:
                raise StepFailed(f"job {job_id} is still {job['state']} in stage {stage}")
            time.sleep(0.5)
        if job["state"] != "published":
            raise StepFailed(f"job {job_id} ended {job['state']}: {job['reason']}")
        self.timeline.say(
            "training", f"published {self.model}:{job['published_version']} after {time.monotonic() - started:.0f} s"
        )
        for variant in self.hubctl("model", "get", self.model, "--version", job["published_version"])["variants"]:
            self.timeline.say(
                "verify",
                f"{variant['target']:<12} {variant['metric']} {variant['score']:.3f}"
                f"  {variant['artifact_size_bytes'] / 1000:7.1f} kB"
                f"  p50 {variant['latency_p50_ms']:.3f} ms  output error {variant['output_error']:.3f}",
            )
        return job

    def follow_rollout_of(self, job: dict[str, Any]) -> None:
        """The one that the job's ``deploy`` section asked for: canary first."""
        version = job["published_version"]

        def mine() -> list[dict[str, Any]]:
            return [r for r in self.hubctl("rollout", "list") if r["version"] == version]

        rollouts = wait_for(f"a rollout of {self.model}:{version}", mine, timeout_s=20)
        self._follow_rollout(rollouts[0]["id"])  # type: ignore[index]

    def _follow_rollout(self, rollout_id: str) -> None:
        told: set[str] = set()
        started = time.monotonic()
        while True:
            self.programs.check()
            rollout = self.hubctl("rollout", "get", rollout_id)
            for device in rollout["devices"]:
                line = (
                    f"wave {device['wave']}  {device['device_id']}: {device['state']} ({device['target']}) {device['reason']}"
                )
                if device["state"] in ("committed", "rolled_back", "failed") and line not in told:
                    told.add(line)
                    self.timeline.say("rollout", line.rstrip())
            if rollout["state"] not in ("running", "paused"):
                break
            if time.monotonic() - started > ROLLOUT_S:
                raise StepFailed(f"rollout {rollout_id} is still in wave {rollout['wave']}")
            time.sleep(0.5)
        if rollout["state"] != "succeeded":
            raise StepFailed(f"rollout {rollout_id} ended {rollout['state']}: {rollout['reason']}")
        self.timeline.say("rollout", f"{self.model}:{rollout['version']} runs on all {len(rollout['devices'])} devices")
