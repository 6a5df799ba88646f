"""From an alarm of drift to a published version: the whole way of a job through a real hub, by stage.

The hub trains a first version on digits, gets a few hundred darkened ones with labels, and is told of drift as its own drift
watch tells it. Measured from there to the published version. Reference of the whole: the time in which networks really learned.
"""

import argparse
import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from cloud_hub.core.model import Job, JobState, Principal, Role
from cloud_hub.services.datasets import NewSample
from cloud_hub.services.triggers import DRIFT
from protos.contract.ids import model_name
from scripts.benches._figures import figure
from scripts.benches._serving import ServingHub

ADMIN = Principal(role=Role.ADMIN, name="bench")
LABELS = tuple("0123456789")
MODEL = model_name("digits")
DEADLINE_S = 900.0
SPEC = """
name: digits
data: {dataset: digits}
teacher: {width: 24, epochs: TEACHER}
student: {width: 16, epochs: STUDENT}
train: {augment: [brightness, shift]}
gate: {bound: 0.8, when_unsure: promote, min_gain: -0.05}
triggers: {drift: true, min_new_labels: 100}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few epochs")
    quick = parser.parse_args().quick
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    hub = ServingHub(folder / "hub")
    try:
        _measure(hub, SPEC.replace("TEACHER", "6" if quick else "28").replace("STUDENT", "6" if quick else "36"))
    finally:
        hub.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _measure(hub: ServingHub, spec: str) -> None:
    services = hub.services
    services.datasets.create(ADMIN, "digits", LABELS)
    services.datasets.import_samples(ADMIN, _digits(0, 1400, 1.0))
    services.training.put_spec(ADMIN, spec)
    _ended(hub, services.training.run(ADMIN, MODEL).id)
    services.datasets.import_samples(ADMIN, _digits(1400, 1797, 0.3))
    started = time.monotonic()
    id = services.training.request(MODEL, DRIFT, "label distribution: PSI 0.4")
    job = _ended(hub, id)
    whole_s = time.monotonic() - started
    version = services.registry.get(ADMIN, MODEL, version=job.published_version)
    stages = version.report["stages_s"]
    assert isinstance(stages, dict) and job.started_at is not None
    learned_s = sum(stages.get(name, 0.0) for name in ("teacher", "student"))
    figure("pipeline", "drift to published version", whole_s, "s", reference=learned_s)
    figure("pipeline", "waited for a worker", (job.started_at - job.created_at).total_seconds(), "s")
    for name, seconds in stages.items():
        figure("pipeline", f"stage {name}", seconds, "s", reference=whole_s)


def _ended(hub: ServingHub, id: str) -> Job:
    deadline = time.monotonic() + DEADLINE_S
    while (job := hub.services.training.job(id)).state in (JobState.QUEUED, JobState.RUNNING):
        if time.monotonic() > deadline:
            raise SystemExit(f"job {id} did not end in {DEADLINE_S:.0f} s")
        time.sleep(0.05)
    if job.state is not JobState.PUBLISHED:
        raise SystemExit(f"job {id} is {job.state.name.lower()}: {job.reason}")
    return job


def _digits(first: int, last: int, light: float) -> Iterator[NewSample]:
    data = load_digits()
    for i in range(first, last):
        small = Image.fromarray((data.images[i] * (255 / 16 * light)).astype(np.uint8))
        file = io.BytesIO()
        small.resize((32, 32), Image.Resampling.BILINEAR).convert("RGB").save(file, "png")
        yield NewSample(
            dataset="digits", content=file.getvalue(), label=str(data.target[i]), source=f"writer-{i // 10}", name=f"{i}.png"
        )


if __name__ == "__main__":
    main()
