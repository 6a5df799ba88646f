"""Pictures of one of several classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cloud_hub.pipeline import images
from cloud_hub.pipeline.classes import Classes
from cloud_hub.pipeline.clean import Decode, Item
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.frames import FrameFeeder
from cloud_hub.pipeline.tasks.image_classification import NetworkSpec
from cloud_hub.pipeline.tasks.image_classification.network import build
from edge_agent.infer.inputs import Content
from protos.contract.inputs import ImageInput, Input, Layout


class ImageClassification(Classes):
    def decoder(self) -> Decode:
        image = self.spec.preprocess
        return images.decoder(image.width, image.height, image.channels)

    def fit_input(self, items: Sequence[Item]) -> Input:
        image = self.spec.preprocess
        mean, std = images.statistics(self.stack([item.content for item in items]), image.channels)
        return ImageInput(
            width=image.width, height=image.height, channels=image.channels, layout=Layout.NCHW, mean=mean, std=std
        )

    def inputs(self, contents: Sequence[Content], input: Input) -> NDArray[Any]:
        return np.asarray(contents)

    def stack(self, contents: Sequence[Content]) -> Any:
        return np.stack([np.asarray(each) for each in contents])

    def feeder(self, splits: Splits) -> FrameFeeder:
        input = splits.input
        assert isinstance(input, ImageInput)
        return FrameFeeder(input.mean, input.std, self.spec.augment)

    def network(self, section: NetworkSpec, splits: Splits) -> nn.Module:
        image = self.spec.preprocess
        return build(
            section,
            channels=image.channels,
            side=min(image.width, image.height),
            classes=len(splits.labels),
            seed=self.spec.train.seed,
        )
