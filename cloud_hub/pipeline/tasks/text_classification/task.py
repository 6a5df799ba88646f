"""Short texts, each of one of several classes."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cloud_hub.pipeline import contents
from cloud_hub.pipeline.classes import Classes
from cloud_hub.pipeline.clean import Decode, Item
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.sparse import SparseFeeder, sparse
from cloud_hub.pipeline.task import Outputs, Score
from cloud_hub.pipeline.tasks.text_classification import NetworkSpec, TextSpec
from cloud_hub.pipeline.tasks.text_classification.network import build
from edge_agent.infer.inputs import Content, encoder
from protos.contract.inputs import Input, SampleKind, TextInput


class TextClassification(Classes):
    def decoder(self) -> Decode:
        return contents.decoder(SampleKind.TEXT, same=_folded)

    def fit_input(self, items: Sequence[Item]) -> Input:
        text: TextSpec = self.spec.preprocess
        return TextInput(buckets=text.buckets, words=text.words, chars=text.chars)

    def inputs(self, contents: Sequence[Content], input: Input) -> NDArray[Any]:
        encode = encoder(input)
        return sparse(encode(content)[0] for content in contents)

    def feeder(self, splits: Splits) -> SparseFeeder:
        return SparseFeeder(splits.input.shape[1])

    def network(self, section: NetworkSpec, splits: Splits) -> nn.Module:
        return build(section, buckets=splits.input.shape[1], classes=len(splits.labels), seed=self.spec.train.seed)

    def score(self, outputs: Outputs, split: Split, splits: Splits) -> Score:
        plain = super().score(outputs, split, splits)
        counts = np.bincount(split.targets, minlength=len(splits.labels))
        rare = int(np.argmin(np.where(counts > 0, counts, len(split) + 1)))
        details = {
            **plain.details,
            "rarest": splits.labels[rare],
            "f1_of_rarest": round(_f1(outputs.argmax(1) == rare, split.targets == rare), 4),
            "most_frequent_share": round(float(counts.max() / len(split)), 4),  # to be beaten: the same answer always
        }
        return replace(plain, details=details)


def _folded(content: Content) -> bytes:
    """Texts that only case, blanks or forms of one character set apart are the same: the model could not tell them apart."""
    assert isinstance(content, str)
    return " ".join(unicodedata.normalize("NFKC", content).lower().split()).encode("utf-8", "replace")


def _f1(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    wanted = int(said.sum()) + int(true.sum())
    return 2 * int((said & true).sum()) / wanted if wanted else 0.0
