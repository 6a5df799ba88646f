"""German credit (UCI Statlog, CC BY 4.0): 1,000 applications of 20 columns, 700 repaid and 300 not.

The official cost matrix: to take a bad one for good costs 5, a good one for bad 1.
"""

from collections.abc import Iterator
from pathlib import Path

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import encode_row
from scripts.datasets import Example, raw

LABELS = ("good", "bad")
COLUMNS = (
    "checking_account", "months", "history", "purpose", "amount", "savings", "employed_since", "rate", "status_and_sex",
    "guarantors", "resident_since", "property", "age", "other_plans", "housing", "credits", "job", "dependants", "telephone",
    "foreign_worker",
)  # fmt: skip
NUMBERS = frozenset(("months", "amount", "rate", "resident_since", "age", "credits", "dependants"))


def samples(folder: Path) -> Iterator[RawSample]:
    """In the file's order, which is none of time."""
    lines = (folder / "credit_german" / "german.data").read_text(encoding="ascii").splitlines()
    for number, line in enumerate(lines):
        *cells, label = line.split()
        row = {name: float(cell) if name in NUMBERS else cell for name, cell in zip(COLUMNS, cells, strict=True)}
        yield raw(encode_row(row), LABELS[int(label) - 1], name=f"credit-{number}")


EXAMPLES = (
    Example(
        name="credit",
        data="credit_german: 1,000 rows, split by row",
        samples=samples,
        labels=LABELS,
        reference="published: AUC 0.76 to 0.80",
        figures=("cost", "cost_of_one_answer", "balanced_accuracy", "calibration_error"),
        quick={"teacher": {"epochs": 6}, "student": {"epochs": 6}},
    ),
)
