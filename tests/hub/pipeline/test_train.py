"""The loop and what shapes it, on small networks and real digits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.core.spec_sections.train import TrainSpec
from cloud_hub.pipeline import feed, optimise, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.augment import augment
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.distil import distillation
from cloud_hub.pipeline.ensemble import Ensemble, seeded
from cloud_hub.pipeline.feed import Feed
from cloud_hub.pipeline.group import Group
from cloud_hub.pipeline.progress import Cancelled
from cloud_hub.pipeline.task import Feeder, Loss, Task
from cloud_hub.pipeline.tasks.image_classification import TASK, NetworkSpec
from cloud_hub.pipeline.train import Fitted
from edge_agent.infer.inputs import tensors_of
from protos.contract.inputs import Layout
from tests.hub.pipeline.parts import LABELS, SMALL_SPEC, digits

TINY = NetworkSpec(width=4, stages=2, epochs=3)
PLACE = torch.device("cpu")


def spec_with(train_section: str = "") -> TrainingSpec:
    extra = f", {train_section}" if train_section else ""
    return parse(SMALL_SPEC.replace("augment: [shift]", f"augment: [shift]{extra}"))


TASK_ = tasks.make(spec_with())


@pytest.fixture(scope="module")
def splits() -> Splits:
    return TASK_.load(LABELS, digits(260))


def task_with(train_section: str) -> Task:
    return tasks.make(spec_with(train_section))


def network_of(splits: Splits, seed: int = 0) -> nn.Module:
    own = tasks.make(replace(TASK_.spec, train=replace(TASK_.spec.train, seed=seed)))
    return own.network(TINY, splits)


def fit(
    network: nn.Module,
    splits: Splits,
    path: Path,
    *,
    task: Task = TASK_,
    epochs: int = 3,
    die_after: int = 0,
    key: str = "k",
    loss: Loss | None = None,
) -> Fitted:
    told: list[str] = []

    def tell(fraction: float, line: str) -> None:
        told.append(line)
        if len(told) == die_after:
            raise Cancelled("killed")

    wanted = loss or task.loss(splits)
    return train.fit(task, network, splits, epochs=epochs, loss=wanted, checkpoint=Checkpoint(path, key), tell=tell)


def weights(network: nn.Module) -> bytes:
    return b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in network.state_dict().values())


EVERYTHING = "ema: 0.9, accumulate: 2, mixup: 0.3, precision: fp16, dropout: 0.2, batch_size: 32, adversarial: {attack: fgsm}"
SETTINGS = ["", "optimizer: sgd, lr: 0.05, schedule: constant, precision: bf16", EVERYTHING]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_training_interrupted_after_any_epoch_ends_with_the_same_bytes(settings: str, splits: Splits, tmp_path: Path) -> None:
    task = task_with(settings)

    def network() -> nn.Module:
        return nn.Sequential(network_of(splits), nn.Dropout(0.1))

    whole = network()
    expected = fit(whole, splits, tmp_path / "whole", task=task)
    for epoch in (1, 2):
        path, resumed = tmp_path / f"cut-{epoch}", network()
        with pytest.raises(Cancelled):
            fit(network(), splits, path, task=task, die_after=epoch)
        result = fit(resumed, splits, path, task=task)
        assert (result.epochs, result.value) == (expected.epochs, expected.value)
        assert weights(resumed) == weights(whole)
        ours, theirs = (safetensors.torch.load_file(each) for each in (path, tmp_path / "whole"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_finished_training_is_not_repeated(splits: Splits, tmp_path: Path) -> None:
    first, again = network_of(splits), network_of(splits, seed=1)
    fit(first, splits, tmp_path / "done", epochs=1)
    fit(again, splits, tmp_path / "done", epochs=1, die_after=1)  # a single epoch would end it
    assert weights(again) == weights(first)


def test_a_checkpoint_of_other_data_or_another_spec_is_not_used(splits: Splits, tmp_path: Path) -> None:
    fit(network_of(splits), splits, tmp_path / "old", epochs=1, key="yesterday's data")
    with pytest.raises(Cancelled):
        fit(network_of(splits), splits, tmp_path / "old", key="today's data", die_after=1)


@pytest.mark.parametrize("content", [b"\xff" * 100, b"", b"\x08" + b"\x00" * 7 + b"[1, 2]  "])
def test_a_damaged_checkpoint_starts_the_training_again(content: bytes, splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(content)
    assert fit(network_of(splits), splits, tmp_path / "bad", epochs=1).epochs == 1


def test_the_same_seed_gives_the_same_network(splits: Splits) -> None:
    first, second, other = network_of(splits), network_of(splits), network_of(splits, seed=1)
    assert weights(first) == weights(second) != weights(other)


def test_training_stops_when_validation_no_longer_gets_better(splits: Splits, tmp_path: Path) -> None:
    assert fit(network_of(splits), splits, tmp_path / "c", task=task_with("lr: 1.0e-12, patience: 1"), epochs=50).epochs < 10


def test_a_budget_of_minutes_ends_the_training_and_shortens_its_schedule(splits: Splits, tmp_path: Path) -> None:
    late = fit(network_of(splits), splits, tmp_path / "late", task=task_with("minutes: 0.00001"), epochs=50)
    assert late.epochs == 1
    in_time = fit(network_of(splits), splits, tmp_path / "in-time", task=task_with("minutes: 60"), epochs=2)
    assert in_time.epochs == 2


def test_a_loss_that_is_no_number_ends_with_advice(splits: Splits, tmp_path: Path) -> None:
    def broken(outputs: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum() * float("nan")

    with pytest.raises(Invalid, match=r"lower 'train.lr'"):
        fit(network_of(splits), splits, tmp_path / "c", epochs=1, loss=broken)


def test_steps_are_told_and_losses_looked_at_only_where_they_are_asked_for(splits: Splits, tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []

    def step(*, epoch: int, epochs: int, step: int, steps: int, loss: object) -> None:
        told.append((epoch, step, steps))
        assert callable(loss) and (step > 1 or 0 < loss() < 10)

    train.fit(
        TASK_,
        network_of(splits),
        splits,
        epochs=2,
        loss=TASK_.loss(splits),
        checkpoint=Checkpoint(tmp_path / "c", "k"),
        tell=lambda fraction, line: None,
        step=step,
    )
    assert told[0][:2] == (1, 1)
    assert told[-1] == (2, told[-1][2], told[-1][2])


# -- gradients to weights -------------------------------------------------------------------------------------------------


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path: Path, splits: Splits) -> None:
    def plain() -> nn.Module:  # batch norm would see parts
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))

    whole, parts = plain(), plain()
    for network, count in ((whole, 1), (parts, 5)):
        settings = f"train: {{augment: [], optimizer: sgd, momentum: 0.0, lr: 0.01, accumulate: {count}}}"
        task = tasks.make(parse(SMALL_SPEC.replace("train: {augment: [shift]}", settings)))
        fit(network, splits, tmp_path / str(count), task=task, epochs=1)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_every_batch_and_weigh_their_part(world: int, splits: Splits) -> None:
    spec = replace(TASK_.spec.train, batch_size=50)
    feeds = [Feed(splits.train, Feeder(), PLACE, Group(rank=rank, world=world)) for rank in range(world)]
    order = feeds[0].order(spec, 0)
    rows = [feed_.batches(spec, 0, order) for feed_ in feeds]
    for number, parts in enumerate(zip(*rows, strict=True)):
        targets = splits.train.targets[order[number * 50 : number * 50 + 50]]
        assert sorted(torch.cat([part[0].targets for part in parts]).tolist()) == sorted(targets.tolist())
        assert sum(part[0].weight * 1 for part in parts) == pytest.approx(world)


def test_weight_decay_is_for_matrices_alone(splits: Splits) -> None:
    network = network_of(splits)
    groups = optimise.optimizer(network, TrainSpec(weight_decay=0.1)).param_groups
    assert {(group["weight_decay"], all(p.ndim > 1 for p in group["params"])) for group in groups} == {
        (0.1, True),
        (0.0, False),
    }
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_what_is_frozen_is_left_alone(splits: Splits, tmp_path: Path) -> None:
    network = network_of(splits)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fit(network, splits, tmp_path / "c", epochs=1)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_the_average_follows_the_weights_and_is_what_is_kept(splits: Splits) -> None:
    network = nn.Linear(2, 2)
    average = optimise.Average(network, 0.5)
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight += 1
    average.update(network)
    with average.in_place(network):
        assert torch.all(network.weight > start) and torch.all(network.weight <= start + 1)
    torch.testing.assert_close(network.weight.detach(), start + 1)


def test_an_overflow_in_half_precision_is_left_out_and_the_scale_falls() -> None:
    network = nn.Linear(2, 1, bias=False)
    before = network.weight.detach().clone()
    precision = optimise.Precision(PLACE, "fp16")
    chosen = optimise.optimizer(network, TrainSpec())
    scale = precision.scaler.get_scale()
    precision.backward(network(torch.full((1, 2), 1e38)).sum())
    precision.step(chosen, clip=1.0)
    assert torch.equal(network.weight, before)
    assert precision.scaler.get_scale() < scale


@pytest.mark.parametrize(("wish", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)])
def test_only_fp16_scales_its_loss_and_weights_stay_whole(wish: str, kind: torch.dtype) -> None:
    network = nn.Linear(2, 1, bias=False)
    precision = optimise.Precision(PLACE, wish)
    with precision.cast():
        value = network(torch.full((1, 2), 0.5))
    precision.backward(value.float().sum() / 4)  # the first scale by itself is beyond what half precision holds
    grad = network.weight.grad
    assert grad is not None and value.dtype is kind and grad.dtype is network.weight.dtype is torch.float32
    assert precision.scaler.is_enabled() is (wish == "fp16")
    assert float(grad[0, 0]) == (precision.scaler.get_scale() if wish == "fp16" else 1) / 8


def test_gradients_are_clipped() -> None:
    network = nn.Linear(3, 1, bias=False)
    chosen = optimise.optimizer(network, TrainSpec(optimizer="sgd", momentum=0.0, lr=1.0, weight_decay=0.0))
    before = network.weight.detach().clone()
    precision = optimise.Precision(PLACE, "auto")
    assert precision.name == "fp32"
    precision.backward(network(torch.full((1, 3), 1e4)).sum())
    precision.step(chosen, clip=0.5)
    assert float((network.weight.detach() - before).norm()) == pytest.approx(0.5, rel=1e-3)


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [optimise.rate(done, 0.1) for done in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1.0 > rates[3] > rates[4] == pytest.approx(0)
    assert [optimise.rate(done, 0.1, "constant") for done in (0.05, 0.5, 1.0)] == [0.5, 1.0, 1.0]


# -- data -----------------------------------------------------------------------------------------------------------------


def test_rare_classes_are_drawn_more_often(splits: Splits) -> None:
    thin = np.flatnonzero((splits.train.targets != 0) | (np.arange(len(splits.train)) % 5 == 0))
    split = splits.train.take(thin)
    feed_ = Feed(split, Feeder(), PLACE)
    order = feed_.order(TASK_.spec.train, 0)
    drawn, there = np.bincount(split.targets[order]), np.bincount(split.targets)
    assert set(order) == set(range(len(split)))
    assert drawn[0] / there[0] > 1.3
    assert np.array_equal(order, feed_.order(TASK_.spec.train, 0))


def test_data_on_disk_gives_the_batches_that_data_in_memory_does(splits: Splits, tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", splits.train.inputs)
    mapped = replace(splits.train, inputs=np.load(tmp_path / "inputs.npy", mmap_mode="r"))
    spec = TASK_.spec.train
    near, far = (Feed(split, Feeder(), PLACE) for split in (splits.train, mapped))
    order = near.order(spec, 0)
    for ours, theirs in zip(near.batches(spec, 0, order), far.batches(spec, 0, order), strict=True):
        assert torch.equal(ours[0].light, theirs[0].light) and torch.equal(ours[0].targets, theirs[0].targets)


def test_fetching_ahead_ends_with_whoever_asks_and_tells_what_went_wrong() -> None:
    def gather(rows: Tensor) -> tuple[Tensor, Tensor]:
        if int(rows) == 3:
            raise OSError("the disk is gone")
        return rows, rows

    parts = list(torch.arange(100))
    some = feed.ahead(parts[:3], gather)
    assert int(next(some)[0]) == 0
    some.close()  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="the disk is gone"):
        list(feed.ahead(parts, gather))


def test_mixup_mixes_inputs_and_keeps_both_targets() -> None:
    batch, targets = torch.eye(8), torch.arange(8)
    mixed, others, share = feed.mixed(batch, targets, 0.4, np.random.default_rng(0))
    assert 0.5 <= share <= 1
    assert not torch.equal(targets, others)
    for row in range(8):
        assert float(mixed[row, row]) == pytest.approx(share, abs=1e-6)
        assert float(mixed[row, others[row]]) == pytest.approx(1 - share, abs=1e-6)


@pytest.mark.parametrize("name", TASK.augmentations)
def test_an_augmentation_changes_some_pictures_and_stays_within_range(name: str, splits: Splits) -> None:
    batch = TASK_.feeder(splits).light(torch.from_numpy(splits.train.inputs[:64]))
    changed = augment(batch, (name,), torch.Generator().manual_seed(0))
    same = [torch.equal(a, b) for a, b in zip(batch, changed, strict=True)]
    assert changed.shape == batch.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1 + 1e-6
    assert 10 < sum(same) < 50


def test_no_augmentation_changes_nothing() -> None:
    batch = torch.rand(4, 3, 32, 32)
    assert torch.equal(augment(batch, (), torch.Generator()), batch)


def test_training_input_is_what_the_device_makes_of_the_frame(splits: Splits) -> None:
    grey = tasks.make(parse(SMALL_SPEC + "preprocess: {channels: 1}"))
    for task, some in ((TASK_, splits), (grey, grey.load(LABELS, digits(260)))):
        feeder = task.feeder(some)
        ours = feeder(feeder.light(torch.from_numpy(some.test.inputs[:8]))).numpy()
        np.testing.assert_allclose(ours, tensors_of(some.test.contents[:8], some.input_for(Layout.NCHW)), atol=2e-5)


# -- teachers -------------------------------------------------------------------------------------------------------------


def test_the_student_follows_its_teacher(splits: Splits) -> None:
    task = task_with("alpha: 1.0")
    teacher, student = network_of(splits, seed=1), network_of(splits, seed=2)
    batch, targets = torch.randn(16, 3, 32, 32), torch.zeros(16, dtype=torch.long)
    loss = distillation(task, teacher, splits)
    assert float(loss(teacher(batch), batch, targets).detach()) == pytest.approx(0, abs=1e-5)
    assert float(loss(student(batch), batch, targets).detach()) > 1e-4
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_an_ensemble_says_the_mean_of_what_its_members_say(splits: Splits) -> None:
    members = [network_of(splits, seed=seed).eval() for seed in (0, 1)]
    batch = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(Ensemble(members)(batch), (members[0](batch) + members[1](batch)) / 2)
    seeds = [seeded(TASK_.spec, number).train.seed for number in range(3)]
    assert seeds[0] == TASK_.spec.train.seed and len(set(seeds)) == 3


def test_one_sample_that_is_left_over_is_left_out() -> None:
    split = Split(
        contents=[b""] * 9, inputs=np.zeros((9, 2), np.float32), targets=np.zeros((9, 1), np.float32), groups=("",) * 9
    )
    spec = TrainSpec(batch_size=4)
    feed_ = Feed(split, Feeder(), PLACE)
    order = feed_.order(spec, 0)
    assert [len(parts[0].targets) for parts in feed_.batches(spec, 0, order)] == [4, 4]
    with pytest.raises(Invalid, match="processes"):
        Feed(split.take(np.arange(3)), Feeder(), PLACE, Group(rank=0, world=2)).steps(spec, np.arange(3))
