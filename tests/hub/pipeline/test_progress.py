from cloud_hub.core.model import TrainingStep
from cloud_hub.pipeline.progress import STAGES, Stages


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _run(clock: Clock, epochs: int, steps: int, each_s: float) -> tuple[list[tuple[float, TrainingStep]], int]:
    """Told steps, and how often the loss was looked at."""
    told: list[tuple[float, TrainingStep]] = []
    looks = 0

    def tell(stage: str, fraction: float, line: str, step: TrainingStep | None = None) -> None:
        assert (stage, line) == ("teacher", "")
        assert step is not None
        told.append((fraction, step))

    def loss() -> float:
        nonlocal looks
        looks += 1
        return 0.5

    stages = Stages(tell, now=clock)
    with stages.stage("teacher"):
        for epoch in range(1, epochs + 1):
            for step in range(1, steps + 1):
                clock.now += each_s
                stages.step(epoch=epoch, epochs=epochs, step=step, steps=steps, loss=loss)
    return told, looks


def test_steps_are_told_once_a_second_and_only_those_look_at_the_loss() -> None:
    told, looks = _run(Clock(), epochs=10, steps=100, each_s=0.01)  # 10 s in all
    assert len(told) == looks == 10


def test_the_time_left_is_that_of_the_steps_so_far() -> None:
    told, _ = _run(Clock(), epochs=10, steps=10, each_s=2.0)
    assert len(told) == 100
    assert told[0][1].eta_s == 0, "one step says nothing of how long steps take"
    assert told[49][1].eta_s == 100.0
    assert (told[49][1].epoch, told[49][1].step) == (5, 10)


def test_steps_move_the_progress_of_the_job_within_their_stage() -> None:
    fractions = [fraction for fraction, _ in _run(Clock(), epochs=4, steps=25, each_s=1.0)[0]]
    assert fractions == sorted(fractions)
    assert STAGES["data"] < fractions[0] < fractions[-1] == STAGES["data"] + STAGES["teacher"]


def test_of_several_trainings_in_a_stage_each_has_its_own_time_left_and_its_own_share() -> None:
    clock, told = Clock(), list[tuple[float, TrainingStep]]()

    def tell(stage: str, fraction: float, line: str, step: TrainingStep | None = None) -> None:
        assert step is not None
        told.append((fraction, step))

    stages = Stages(tell, now=clock)
    with stages.stage("teacher"):
        for number, each_s in enumerate((10.0, 2.0)):
            train = stages.part(number / 2, 1 / 2)
            for step in range(1, 11):
                clock.now += each_s
                train(epoch=1, epochs=1, step=step, steps=10, loss=lambda: 0.5)
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[9] == STAGES["data"] + STAGES["teacher"] / 2
    assert told[14][1].eta_s == 10.0, "five steps of 2 s; the first training took 10 s for one"
