import pytest

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec, dump, parse

LEAST = "name: signs\ndata: {dataset: signs}\n"


def test_a_name_and_a_data_set_are_enough() -> None:
    spec = parse(LEAST)
    assert spec.name == "signs"
    assert spec.targets == ("onnx-int8", "tflite-int8")
    assert spec.teacher.width >= spec.student.width


def test_what_is_dumped_parses_to_the_same_spec() -> None:
    spec = parse(
        LEAST
        + "teacher: {width: 40}\ntrain: {augment: [flip]}\ntargets: [onnx-fp32]\n"
        + "deploy: {auto: true, selector: {site: a}, gates: [{metric: accuracy, max_fall: 0.1}, {metric: error_rate, max: 1}]}"
    )
    assert parse(dump(spec)) == spec


def test_a_network_keeps_the_defaults_it_does_not_name() -> None:
    spec = parse(LEAST + "student: {epochs: 3}")
    assert (spec.student.epochs, spec.student.width) == (3, parse(LEAST).student.width)


def test_dropout_of_the_training_is_that_of_both_networks_and_of_nothing_else() -> None:
    spec = parse(LEAST + "task: text-classification\ntrain: {dropout: 0.4}")
    assert (spec.teacher.dropout, spec.student.dropout) == (0.4, 0.4)
    assert spec.student.forget == parse(LEAST + "task: text-classification").student.forget


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (LEAST + "train: {labelsmoothing: 1}", "'label_smoothing'"),
        (LEAST + "gates: {}", "'gate'"),
        (LEAST + "deploy: {gates: [{metrc: accuracy}]}", "'metric'"),
        ("name: signs\ndata: {datset: signs}", "'dataset'"),
        (LEAST + "teacher: {wdth: 1}", "'width'"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(text: str, key: str) -> None:
    with pytest.raises(Invalid, match=f"unknown key .* did you mean {key}"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: signs", "data.dataset"),
        ("data: {dataset: signs}", "'name'"),
        ("name: Not A Name\ndata: {dataset: signs}", "'name'"),
        (LEAST + "task: segmentation", "task"),
        (LEAST + "targets: []", "targets"),
        (LEAST + "targets: [onnx-int4]", "onnx-int8"),
        (LEAST + "targets: [onnx-int8, onnx-int8]", "twice"),
        (LEAST + "train: {augment: [sepia]}", "brightness"),
        (LEAST + "train: {lr: .nan}", "train.lr"),
        (LEAST + "train: {batch_size: lots}", "train.batch_size"),
        (LEAST + "train: {batch_size: true}", "train.batch_size"),
        (LEAST + "teacher: {width: 2}", "teacher.width"),
        (LEAST + "preprocess: {width: 8, height: 8}\nstudent: {stages: 5}", "student.stages"),
        (LEAST + "data: {dataset: a, val_share: 0.5, test_share: 0.5}", "leave under 20 %"),
        (LEAST + "triggers: {cron: daily}", "triggers.cron"),
        (LEAST + "deploy: {canary: -1}", "deploy.canary"),
        (LEAST + "deploy: {soak_s: 1000000000}", "deploy.soak_s"),
        (LEAST + "deploy: {gates: [{metric: speed, max: 1}]}", "gate metric must be one of"),
        (LEAST + "deploy: {on_breach: hope}", "deploy.on_breach"),
        (LEAST + "gate: {bound: high}", "gate.bound"),
        (LEAST + "gate: {bound: 90}", "gate.bound. must be 1.0 or less, for accuracy is never more"),
        (LEAST + "gate: {when_unsure: hope}", "gate.when_unsure"),
        (LEAST + "task: object-detection\ntrain: {dropout: 0.1}", "train.dropout. makes no difference to object-detection"),
        (LEAST + "task: text-classification\ntrain: {adversarial: {attack: pgd}}", "train.adversarial.attack. is of no use"),
        (LEAST + "task: forecasting\ntrain: {label_smoothing: 0.1}", "train.label_smoothing. is of no use"),
        (LEAST + "task: forecasting\ntriggers: {metric_drop: 0.1}", "triggers.metric_drop"),
        (LEAST + "task: anomaly-detection\nlabels: {noise: {folds: 3}}", "labels.noise.folds. needs a task whose labels are"),
        (LEAST + "task: recommendation\nlabels: {pseudo: true}", "labels.pseudo. is of no use"),
        ("- a\n- b", "mapping"),
        ("a: [", "not YAML"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("x" * 100_000, "characters"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse(text)


def test_a_spec_is_valid_by_construction() -> None:
    with pytest.raises(Invalid):
        TrainingSpec(name="signs")


@pytest.mark.parametrize("word", ["off", "no", "false", "'off'"])
def test_the_word_off_is_one_of_several_though_yaml_takes_it_for_false(word: str) -> None:
    spec = parse(LEAST + f"compress: {{search: {word}}}\ntrain: {{finetune: {{mode: {word}}}}}")
    assert (spec.compress.search, spec.train.finetune.mode) == ("off", "off")
    with pytest.raises(Invalid, match=r"compress\.search"):
        parse(LEAST + "compress: {search: on}")
