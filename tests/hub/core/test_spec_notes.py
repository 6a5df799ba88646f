import pytest

from cloud_hub.core.spec import parse
from cloud_hub.core.spec_notes import idle

GOOD = "name: signs\ndata: {dataset: signs}\n"


def test_what_takes_effect_is_not_worth_a_word() -> None:
    assert idle(parse(GOOD)) == []
    on = "compress: {search: small, prune: [0.4]}\ndeploy: {auto: true, canary: 3}\ntrain: {optimizer: sgd, momentum: 0.5}\n"
    assert idle(parse(GOOD + on)) == []


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ("compress: {prune: [0.4]}", "'compress.prune' makes no difference: compress.search is off"),
        ("deploy: {selector: {site: a}}", "'deploy.selector' makes no difference: deploy.auto is off"),
        ("train: {momentum: 0.5}", "'train.momentum' makes no difference: train.optimizer is not sgd"),
        ("train: {adversarial: {eps: 0.2}}", "'train.adversarial.eps'"),
        ("train: {finetune: {rank: 8}}", "'train.finetune.rank' makes no difference: train.finetune.mode is off"),
        ("train: {finetune: {mode: head, rank: 8}}", "'train.finetune.rank' makes no difference: train.finetune.mode is not"),
        (
            "train: {finetune: {mode: full, layers: 2}}",
            "'train.finetune.layers' makes no difference: train.finetune.mode is full",
        ),
        ("task: anomaly-detection\npreprocess: {noise: 0.3}", "'preprocess.noise' makes no difference: train.augment has no"),
        ("train: {replay: {share: 0.5}}", "'train.replay.share'"),
        ("labels: {floor: 0.9}", "'labels.floor'"),
        ("triggers: {metric_samples: 50}", "'triggers.metric_samples'"),
        ("resources: {workers: 8}", "'resources.workers'"),
        ("resources: {executor: ray}\ntrain: {processes: 4}", "'train.processes'"),
        ("tuning: {space: {train.lr: {low: 0.1, high: 0.2}}}", "'tuning.space' makes no difference: tuning.trials is 0"),
    ],
)
def test_what_is_said_in_a_section_that_is_off_is_told(said: str, note: str) -> None:
    notes = idle(parse(GOOD + said))
    assert len(notes) == 1 and notes[0].startswith(note)
