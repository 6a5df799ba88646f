"""The closed loop, once: train, roll out, watch, drift, capture, label, retrain, compress, verify, canary, fleet, recover;
and a version that only the field shows to be worse, which stops by itself.

Everything is done by the installed programs (``cloud-hub``, ``edge-agent``, ``hubctl``). The demo plays the two people the loop
needs: the admin who types commands and the annotator who knows what is in the pictures.
"""

import argparse
import csv
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from scripts.demonstration import report, scene
from scripts.demonstration.cameras import Cameras
from scripts.demonstration.hub import Hub
from scripts.demonstration.processes import Hubctl, Programs, free_port, write_yaml
from scripts.demonstration.timeline import StepFailed, Timeline, wait_for

DEVICES = {"cam-onnx-1": "camera-x86", "cam-onnx-2": "camera-x86", "cam-tflite-1": "camera-x86-tflite"}
FPS = 20.0
DAY_FRAMES = 400  # shown to the fleet before the scene changes
AFTER_FRAMES = 450
ENOUGH_LABELS = 0.6  # share of the pictures of the changed scene that must be labelled before it is learned
RECOVERED = 0.5  # share of the lost accuracy that must come back


@dataclass(slots=True)
class Demo:
    folder: Path
    scene: scene.Scene
    timeline: Timeline
    programs: Programs
    hubctl: Hubctl
    cameras: Cameras
    hub: Hub
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        return self.scene.name

    # -- the steps, in order --------------------------------------------------------------------------------------------

    def start_hub(self) -> None:
        config = write_yaml(
            self.folder / "hub.yaml",
            {
                "data_dir": str(self.folder / "hub"),
                "grpc": {"port": free_port(), "enroll_port": free_port(), "token_port": free_port()},
                "broker": {"port": free_port()},
                "metrics": {"port": 0},
                # a demo has minutes where a fleet has days: short windows, the same bounds
                "drift": {"window_s": 5.0, "lateness_s": 1.0, "min_readings": 30, "open_after": 2, "close_after": 2},
            },
        )
        self.programs.run("hub-init", "cloud-hub", "init", "--config", config)
        self.programs.start("hub", "cloud-hub", "serve", "--config", config)
        wait_for("the hub's first answer", self.hub.answers, timeout_s=60)
        self.timeline.say("hub", "gRPC, broker, ingest and scheduler are up; certificate authority made")
        self.hubctl("trust", "init", "--keys", self.folder / "root-keys")
        self.timeline.say("admin", "signed the roots of both TUF repositories with keys that the hub never sees")

    def enrol(self) -> None:
        for device, board in DEVICES.items():
            ticket = self.folder / f"{device}.ticket.json"
            self.hubctl("device", "create", device, "--board", board, "--label", "site=demo", "--ticket", ticket)
            home = self.folder / device
            frames = self.cameras.folders[device]
            frames.mkdir(parents=True)
            config = write_yaml(
                home / "agent.yaml",
                {
                    "data_dir": str(home / "data"),
                    "source": {"kind": "folder", "path": str(frames), "name": device, "follow": True, "fps": 0.0},
                    "spool": {"linger_s": 1.0},
                    "sync": {"report_s": 2.0},
                    "update": {"probation_s": 2.0, "probation_inferences": 20},
                    "capture": {"control_rate": 0.15},
                },
            )
            self.programs.run(f"{device}-enrol", "edge-agent", "enroll", "--ticket", ticket, "--data-dir", home / "data")
            self.programs.start(device, "edge-agent", "run", "--config", config)
        wait_for("all agents online", lambda: self.hub.online() == len(DEVICES), timeout_s=30)
        self.timeline.say("fleet", f"{len(DEVICES)} agents enrolled over one-time tokens and online: {', '.join(DEVICES)}")

    def train_first(self) -> None:
        pictures = self.folder / "import"
        for i, picture in enumerate(self.scene.train):
            target = pictures / picture.label
            target.mkdir(parents=True, exist_ok=True)
            target.joinpath(f"{picture.source}_{i:05d}.png").write_bytes(scene.png(picture.image))
        self.hubctl("dataset", "create", self.model, "--labels", ",".join(self.scene.labels))
        done = self.hubctl("dataset", "import", self.model, "--dir", pictures, "--source-pattern", r"/(.+)_\d+\.png$")
        self.timeline.say("admin", f"imported {done['added']} labelled pictures of {len(self.scene.labels)} classes")
        self.hubctl("spec", "put", "-f", self._spec())
        job = self.hubctl("job", "run", self.model)
        self.facts["first_job"] = self.hub.follow_job(job["id"])

    def roll_out_first(self) -> None:
        self.cameras.show("start", self.scene.day)  # probation needs something to look at
        self.hub.follow_rollout_of(self.facts["first_job"])

    def watch_the_day(self) -> None:
        self.cameras.show("day", self.scene.day)
        self._until_shown("day", DAY_FRAMES)
        self.timeline.say("cameras", f"{self.cameras.count('day')} frames of the scene the model was trained for")
        if self.hubctl("drift", "episodes", "--model", self.model):
            raise StepFailed("drift was reported although the scene had not changed")

    def change_the_scene(self) -> None:
        self.cameras.show("changed", self.scene.adapt)
        self.timeline.say("cameras", "the scene changes" + self._how_it_changes())
        episodes = wait_for("a drift episode", self.hub.episodes, timeout_s=60)
        first = episodes[0]  # type: ignore[index]
        self.facts["drift"] = episodes
        self.timeline.say("hub", f"drift on {first['device_id']}: {first['reason']}")
        alerts = wait_for("the alert of it", lambda: self.hub.alerts("drift"), timeout_s=60)
        self.timeline.say("alert", f"{alerts[0]['severity']}: {alerts[0]['summary']}")  # type: ignore[index]

    def label_until_retraining(self) -> None:
        self.facts["labelled"] = 0
        jobs = wait_for("a retraining started by drift", self._label_and_look_for_job, timeout_s=120, every_s=1.0)
        job = jobs[0]  # type: ignore[index]
        self.timeline.say("labels", f"{self.facts['labelled']} captured samples labelled through the Datasets API")
        self.timeline.say("hub", f"retraining {job['id']} started by trigger '{job['trigger']}': {job['trigger_detail']}")
        self.facts["second_job"] = self.hub.follow_job(job["id"])

    def roll_out_second(self) -> None:
        self.hub.follow_rollout_of(self.facts["second_job"])

    def watch_the_recovery(self) -> None:
        self.cameras.show("after", self.scene.after)
        self._until_shown("after", AFTER_FRAMES)
        self.cameras.pause()
        self.timeline.say(
            "cameras", f"{self.cameras.count('after')} frames of the changed scene, none of them seen in training"
        )
        wait_for("the last telemetry in the store", self._everything_is_stored, timeout_s=40)

    def stop_a_worse_version(self) -> None:
        """The first version once more: every check of a file passes, and only the field shows that it is worse there."""
        first, second = (self.facts[job]["published_version"] for job in ("first_job", "second_job"))
        plan = write_yaml(
            self.folder / "rollout.yaml",
            {
                "model": self.model,
                "version": first,
                "selector": {"site": "demo"},
                "waves": [{"count": 1}, {"percent": 100}],
                "soak_s": 60,
                "gates": [
                    {"metric": "drift_score", "max_rise": 0.25, "versus": "control"},
                    {"metric": "confidence_shift", "max_fall": 0.1, "versus": "control"},
                ],
                "on_breach": "rollback_all",
            },
        )
        self.cameras.show("worse", self.scene.after)
        rollout = self.hubctl("rollout", "create", "-f", plan)
        self.timeline.say("admin", f"rolls {self.model}:{first} out again, with gates on what the field shows")
        started = time.monotonic()
        wait_for("the rollout to stop by itself", lambda: self.hub.rollout(rollout["id"])["state"] == "failed", timeout_s=120)
        self.facts["stopped"] = self.hub.rollout(rollout["id"])
        self.facts["stopped_s"] = round(time.monotonic() - started, 1)
        self.timeline.say("gate", f"stopped by itself: {self.facts['stopped']['reason']}")
        wait_for(f"every device on {self.model}:{second}", lambda: self.hub.running() == {second}, timeout_s=60)
        self.timeline.say("rollout", f"all {len(DEVICES)} devices run {self.model}:{second} again")
        self.cameras.pause()
        wait_for("the last telemetry in the store", self._everything_is_stored, timeout_s=40)

    def settle(self) -> None:
        """Stop the agents and compare what was shown with what was stored."""
        self.programs.stop(*DEVICES)
        self.facts |= {
            "readings": self.hubctl.rows("telemetry", "query", "--limit", 100_000),
            "stats": self.hubctl("telemetry", "stats"),
            "windows": self.hubctl("drift", "windows", "--model", self.model, "--limit", 1000),
            "versions": self.hubctl("model", "versions", self.model),
            "rollouts": [self.hubctl("rollout", "get", r["id"]) for r in self.hubctl("rollout", "list")],
        }
        report.settle(self)

    # -- pieces ---------------------------------------------------------------------------------------------------------

    def _everything_is_stored(self) -> bool:
        self.programs.check()
        stored = {int(r["frame_key"]) for r in self.hubctl.rows("telemetry", "query", "--limit", 100_000)}
        return stored >= {shown.key for shown in self.cameras.shown if shown.phase != "start"}

    def _label_and_look_for_job(self) -> list[dict[str, Any]]:
        """One round of the annotator's work, then a look whether the trigger has fired."""
        self.programs.check()
        waiting = self.hubctl("sample", "list", self.model, "--labelled", "no", "--limit", 0)
        if waiting:
            truth = {shown.name: shown.label for shown in self.cameras.shown}
            path = self.folder / "labels.csv"
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([("sample_id", "label"), *((s["id"], truth[s["name"]]) for s in waiting)])
            self.hubctl("sample", "label", "--csv", path)
            self.facts["labelled"] += len(waiting)
        return [job for job in self.hubctl("job", "list") if job["trigger"] == "drift"]

    def _until_shown(self, phase: str, frames: int) -> None:
        wait_for(f"{frames} frames of phase {phase}", lambda: self.cameras.count(phase) >= frames, timeout_s=120)
        self.programs.check()

    def _how_it_changes(self) -> str:
        return ": darkening, blur, inversion" if self.model == "digits" else ": the drift split"

    def _spec(self) -> Path:
        side = self.scene.side
        return write_yaml(
            self.folder / "spec.yaml",
            {
                "name": self.model,
                "data": {"dataset": self.model},
                "preprocess": {"width": side, "height": side, "channels": self.scene.channels},
                **self.scene.effort,
                "targets": ["onnx-int8", "tflite-int8", "onnx-fp32", "tflite-fp32"],
                "gate": {"bound": self.scene.bound, "when_unsure": "promote"},  # few samples, and a scene that has changed
                "triggers": {"drift": True, "min_new_labels": int(len(self.scene.adapt) * ENOUGH_LABELS)},
                "deploy": {"auto": True, "selector": {"site": "demo"}, "canary": 1, "soak_s": 2},
            },
        )


STEPS = (
    Demo.start_hub,
    Demo.enrol,
    Demo.train_first,
    Demo.roll_out_first,
    Demo.watch_the_day,
    Demo.change_the_scene,
    Demo.label_until_retraining,
    Demo.roll_out_second,
    Demo.watch_the_recovery,
    Demo.stop_a_worse_version,
    Demo.settle,
)


def main() -> int:
    arguments = _arguments()
    console = Console(soft_wrap=True)
    folder: Path = arguments.out.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shown = scene.folder(arguments.data) if arguments.data else scene.digits()
    timeline, programs, hubctl = Timeline(console), Programs(folder), Hubctl(folder / "hub" / "admin" / "hubctl.yaml")
    demo = Demo(
        folder=folder,
        scene=shown,
        timeline=timeline,
        programs=programs,
        hubctl=hubctl,
        hub=Hub(shown.name, programs, hubctl, timeline),
        cameras=Cameras({device: folder / device / "frames" for device in DEVICES}, FPS),
    )
    try:
        for step in STEPS:
            step(demo)
    except StepFailed as failure:
        console.print(f"[bold red]demo failed:[/bold red] {failure}\nlogs are in {folder}", highlight=False)
        return 1
    finally:
        demo.cameras.pause()
        demo.programs.stop()
    return report.conclude(demo)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with train/<label>/ and drift/<label>/ images; default: digits")
    parser.add_argument("--out", type=Path, default=Path(".demo"), help="where everything is written (emptied first)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
