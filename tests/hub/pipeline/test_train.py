from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import AUGMENTATIONS, NetworkSpec
from cloud_hub.pipeline import data, models, train
from cloud_hub.pipeline.augment import augment
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.distil import distillation
from cloud_hub.pipeline.models import Input, Network
from cloud_hub.pipeline.progress import Cancelled
from cloud_hub.pipeline.train import Fitted
from edge_agent.infer.preprocess import preprocess_batch
from protos.contract.manifest import Layout
from tests.hub.pipeline.parts import LABELS, digits, small_spec

SPEC = small_spec()
TINY = NetworkSpec(width=6, stages=2, epochs=3)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return data.load(SPEC, LABELS, digits(400))


def _network(seed: int = 0) -> Network:
    return models.build(TINY, channels=3, side=32, classes=10, seed=seed)


def _fit(network: Network, splits: Splits, path: Path, *, epochs: int = 3, die_after: int = 0, key: str = "k") -> Fitted:
    lines: list[str] = []

    def tell(fraction: float, line: str) -> None:
        lines.append(line)
        if len(lines) == die_after:
            raise Cancelled("killed")

    loss = train.cross_entropy(SPEC.train)
    return train.fit(network, splits, SPEC.train, epochs=epochs, loss=loss, checkpoint=Checkpoint(path, key), tell=tell)


def _weights(network: Network) -> np.ndarray:
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in network.state_dict().values()])


def test_an_interrupted_training_ends_where_the_uninterrupted_one_does(splits: Splits, tmp_path: Path) -> None:
    whole, resumed = _network(), _network()
    expected = _fit(whole, splits, tmp_path / "whole")
    with pytest.raises(Cancelled):
        _fit(_network(), splits, tmp_path / "cut", die_after=2)
    result = _fit(resumed, splits, tmp_path / "cut")
    assert (result.epochs, result.accuracy) == (expected.epochs, expected.accuracy)
    np.testing.assert_allclose(_weights(resumed), _weights(whole), rtol=1e-4, atol=1e-5)


def test_a_finished_training_is_not_repeated(splits: Splits, tmp_path: Path) -> None:
    first, again = _network(), _network(seed=1)
    _fit(first, splits, tmp_path / "done")
    _fit(again, splits, tmp_path / "done", die_after=1)  # a single epoch would end it
    assert np.array_equal(_weights(again), _weights(first))


def test_a_checkpoint_of_other_data_or_another_spec_is_not_used(splits: Splits, tmp_path: Path) -> None:
    _fit(_network(), splits, tmp_path / "old", key="yesterday's data")
    with pytest.raises(Cancelled):
        _fit(_network(), splits, tmp_path / "old", key="today's data", die_after=1)


def test_a_damaged_checkpoint_starts_the_training_again(splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"\xff" * 100)
    assert _fit(_network(), splits, tmp_path / "bad", epochs=1).epochs == 1


def test_the_same_seed_gives_the_same_network(splits: Splits, tmp_path: Path) -> None:
    first, second, other = _network(), _network(), _network(seed=1)
    assert np.array_equal(_weights(first), _weights(second))
    assert not np.array_equal(_weights(first), _weights(other))


def test_training_stops_when_validation_no_longer_gets_better(splits: Splits, tmp_path: Path) -> None:
    still = replace(SPEC.train, lr=1e-12, patience=2)
    loss = train.cross_entropy(still)
    fitted = train.fit(
        _network(), splits, still, epochs=50, loss=loss, checkpoint=Checkpoint(tmp_path / "c", "k"), tell=lambda f, line: None
    )
    assert fitted.epochs < 50


def test_a_loss_that_is_no_number_ends_with_advice(splits: Splits, tmp_path: Path) -> None:
    def broken(logits: torch.Tensor, batch: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits.sum() * float("nan")

    with pytest.raises(Invalid, match=r"lower 'train.lr'"):
        train.fit(
            _network(),
            splits,
            SPEC.train,
            epochs=1,
            loss=broken,
            checkpoint=Checkpoint(tmp_path / "c", "k"),
            tell=lambda f, line: None,
        )


def test_the_student_follows_its_teacher(splits: Splits) -> None:
    teacher, student = _network(seed=1), _network(seed=2)
    only_teacher = replace(SPEC.train, alpha=1.0)
    batch = torch.randn(16, 3, 32, 32)
    labels = torch.zeros(16, dtype=torch.long)
    loss = distillation(teacher, only_teacher)
    assert float(loss(teacher(batch), batch, labels).detach()) == pytest.approx(0, abs=1e-5)
    assert float(loss(student(batch), batch, labels).detach()) > 1e-4
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_rare_classes_are_drawn_more_often(splits: Splits) -> None:
    thin = np.flatnonzero((splits.train.labels != 0) | (np.arange(len(splits.train)) % 5 == 0))
    split = data.Split(frames=splits.train.frames[thin], labels=splits.train.labels[thin], groups=("",) * len(thin))
    feed = train._Feed(split, Input(splits.mean, splits.std), torch.device("cpu"))
    order = feed.order(SPEC.train, 0)
    drawn, there = np.bincount(split.labels[order]), np.bincount(split.labels)
    assert set(order) == set(range(len(split)))
    assert drawn[0] / there[0] > 1.3
    assert np.array_equal(order, feed.order(SPEC.train, 0))


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [train.rate(done, 0.1) for done in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1.0 > rates[3] > rates[4] == pytest.approx(0)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_changes_some_pictures_and_stays_within_range(name: str, splits: Splits) -> None:
    tensors = Input(splits.mean, splits.std)
    batch = tensors.light(torch.from_numpy(splits.train.frames[:64]))
    changed = augment(batch, (name,), torch.Generator().manual_seed(0))
    same = [torch.equal(a, b) for a, b in zip(batch, changed, strict=True)]
    assert changed.shape == batch.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1 + 1e-6
    assert 10 < sum(same) < 50


def test_no_augmentation_changes_nothing(splits: Splits) -> None:
    batch = torch.rand(4, 3, 32, 32)
    assert torch.equal(augment(batch, (), torch.Generator()), batch)


def test_training_input_is_what_the_device_makes_of_the_frame(splits: Splits) -> None:
    grey = data.load(small_spec("preprocess: {channels: 1}"), LABELS, digits(300))
    for some in (splits, grey):
        tensors = Input(some.mean, some.std)
        frames = some.test.frames[:8]
        ours = tensors(tensors.light(torch.from_numpy(frames))).numpy()
        np.testing.assert_allclose(ours, preprocess_batch(list(frames), some.preprocess(Layout.NCHW)), atol=2e-5)
