"""What losses say of outputs that are right, wrong or far off, and what attacks do to a network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cloud_hub.core.spec_sections.train import AdversarialSpec
from cloud_hub.pipeline import losses, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.adversarial import attack, robust
from cloud_hub.pipeline.checkpoint import Checkpoint
from tests.hub.pipeline.parts import LABELS, digits
from tests.hub.pipeline.test_train import spec_with

LOGITS = torch.tensor([[4.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
TARGETS = torch.tensor([0, 1])


def test_cross_entropy_is_torchs_and_focal_looks_away_from_what_is_known() -> None:
    assert losses.cross_entropy(LOGITS, TARGETS) == functional.cross_entropy(LOGITS, TARGETS)
    smoothed = losses.cross_entropy(LOGITS[:1], TARGETS[:1], smoothing=0.2)
    assert smoothed > losses.cross_entropy(LOGITS[:1], TARGETS[:1])
    known, unknown = (losses.focal(LOGITS[row : row + 1], TARGETS[row : row + 1]) for row in (0, 1))
    plain = [losses.cross_entropy(LOGITS[row : row + 1], TARGETS[row : row + 1]) for row in (0, 1)]
    assert known < 0.01 * plain[0]
    assert unknown > 0.9 * plain[1]
    assert losses.focal(LOGITS, TARGETS, focus=0.0) == pytest.approx(float(losses.cross_entropy(LOGITS, TARGETS)))


def test_binary_cross_entropy_takes_shares_or_classes() -> None:
    one_hot = functional.one_hot(TARGETS, 3).float()
    assert losses.bce(LOGITS, TARGETS) == losses.bce(LOGITS, one_hot)
    assert losses.bce(torch.zeros(2, 1), torch.tensor([[0.0], [1.0]])) == pytest.approx(0.6931, abs=1e-4)
    assert losses.bce(LOGITS, one_hot, smoothing=0.1) > losses.bce(torch.where(one_hot > 0, 9.0, -9.0), one_hot)


def test_huber_is_half_the_square_near_and_linear_far_and_shapes_are_flattened() -> None:
    outputs, targets = torch.zeros(1, 2, 2), torch.tensor([[0.5, 0.5, 0.5, 10.0]])
    assert losses.mse(outputs, targets) == pytest.approx((3 * 0.25 + 100) / 4)
    assert losses.huber(outputs, targets) == pytest.approx((3 * 0.125 + 9.5) / 4)
    assert losses.huber(torch.zeros(3, 1), torch.full((3,), 10.0)) == pytest.approx(9.5)


def test_the_best_answer_to_the_pinball_loss_is_the_quantile() -> None:
    draws = torch.linspace(0, 1, 101)[:, None]
    loss = losses.quantile((0.1, 0.5, 0.9))
    asked = [float(loss(torch.tensor([[low, 0.5, high]]).repeat(101, 1), draws)) for low, high in ((0.1, 0.9), (0.3, 0.7))]
    assert asked[0] < asked[1]
    two = losses.quantile((0.5,))(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 2.0]]))
    assert two == pytest.approx(0.5)
    with pytest.raises(ValueError, match="above 0 and below 1"):
        losses.quantile((0.0,))


def test_losses_compute_in_float_whatever_they_are_given() -> None:
    for loss in (losses.mse, losses.huber, losses.quantile((0.5,))):
        assert loss(torch.ones(2, 1, dtype=torch.bfloat16), torch.zeros(2, 1)).dtype is torch.float32
    assert losses.cross_entropy(LOGITS.bfloat16(), TARGETS).dtype is torch.float32


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_an_attack_stays_within_its_bound_and_harms_more_than_chance(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3)).train()
    batch, targets = torch.randn(64, 3, 2, 2), torch.randint(0, 3, (64,))
    spec = AdversarialSpec(attack=name, eps=0.2)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    bent = attack(spec, lambda outputs, batch, targets: losses.cross_entropy(outputs, targets))(network, batch, targets)
    assert float((bent - batch).abs().max()) <= 0.2 + 1e-6
    assert network.training and all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()
    shaken = batch + 0.2 * torch.randn(batch.shape).sign()
    worst, chance = (float(losses.cross_entropy(network(each), targets).detach()) for each in (bent, shaken))
    assert worst > chance + 0.05


def test_an_attack_leaves_frozen_batch_norm_as_it_is() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3), nn.Dropout()).train()
    network[1].eval()
    bent = attack(AdversarialSpec(attack="fgsm"), lambda outputs, batch, targets: losses.cross_entropy(outputs, targets))
    bent(network, torch.randn(8, 3, 2, 2), torch.randint(0, 3, (8,)))
    assert [module.training for module in network] == [True, False, True, True]


def test_a_network_trained_against_an_attack_stands_more_of_it(tmp_path: Path) -> None:
    settings = ("ema: 0.0", "adversarial: {attack: fgsm, eps: 0.15}")
    stood = []
    for number, setting in enumerate(settings):
        task = tasks.make(spec_with(setting))
        against = replace(task.spec.train, adversarial=AdversarialSpec(attack="fgsm", eps=0.15))
        splits = task.load(LABELS, digits(700))
        network = task.network(task.spec.student, splits)
        train.fit(
            task,
            network,
            splits,
            epochs=6,
            loss=task.loss(splits),
            checkpoint=Checkpoint(tmp_path / str(number), "k"),
            tell=lambda fraction, line: None,
        )
        judge = tasks.make(replace(task.spec, train=against))
        found = robust(judge, network, splits, splits.test)
        assert found == robust(judge, network, splits, splits.test)
        assert found["samples"] == len(splits.test) and found["attack"] == "fgsm"
        assert isinstance(found["accuracy"], float) and isinstance(found["accuracy_unbent"], float)
        assert found["accuracy"] <= found["accuracy_unbent"]
        stood.append(found["accuracy"])
    assert stood[1] > stood[0] + 0.05, np.round(stood, 3)
