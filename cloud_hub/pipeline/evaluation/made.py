"""What a job has to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.evaluation.findings import Findings
from cloud_hub.pipeline.evaluation.gallery import Shown

Histories = Mapping[str, Sequence[Mapping[str, float]]]  # by network, of each epoch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    name: str  # of the model
    target: str  # whose answers were judged: of a file, or "network"
    metric: Metric
    splits: Splits
    findings: Findings
    shown: Sequence[Shown]
    report: Mapping[str, Any]  # the job's own
    histories: Histories
