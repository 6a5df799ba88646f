import pytest

from cloud_hub.core import spec_problems
from cloud_hub.core.spec import parse

GOOD = "name: signs\ndata: {dataset: signs}\n"


def test_a_good_specification_comes_back_as_it_parses() -> None:
    assert spec_problems.find(GOOD) == (parse(GOOD), [])


def test_all_that_is_wrong_is_said_at_once() -> None:
    spec, problems = spec_problems.find(
        "name: Not A Name\n"
        "data: {datset: signs, val_share: 2, take_s: -1}\n"
        "teacher: {width: 2, epocs: 3}\n"
        "train: {lr: -1, batch_size: lots, augment: [sepia]}\n"
        "targets: [onnx-int4]\n"
        "triggers: {cron: '61 * * * *'}\n"
        "gate: {bound: 90}\n"
        "gates: {}\n"
    )
    assert spec is None
    said = "\n".join(problems)
    for key in (
        "'name'", "data.datset", "data.val_share", "data.take_s", "data.dataset", "teacher.width", "teacher.epocs", "train.lr",
        "train.batch_size", "train.augment", "targets", "gate.bound", "unknown key 'gates'; did you mean 'gate'?", "61",
    ):  # fmt: skip
        assert key in said, key
    assert len(problems) == 14


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "mapping"),
        ("a: [", "not YAML"),
        ("", "mapping"),
        (GOOD + "task: sorcery", "'task' must be one of"),
        (GOOD + "data:", "data.dataset"),
        (GOOD + "deploy: {selector: {'a b': c}}", "a b"),
        (GOOD + "teacher: 7", "'teacher' must be a mapping"),
    ],
)
def test_what_cannot_be_taken_apart_is_one_problem(text: str, said: str) -> None:
    spec, problems = spec_problems.find(text)
    assert spec is None
    assert len(problems) == 1 and said in problems[0]


def test_problems_of_an_unknown_task_do_not_hide_the_others() -> None:
    _, problems = spec_problems.find(GOOD + "task: sorcery\ntrain: {lr: -1}\n")
    assert len(problems) == 2 and "train.lr" in problems[1]
