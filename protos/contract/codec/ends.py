"""What a model takes and what it gives, within its manifest."""

from protos.contract.codec.message import enum
from protos.contract.errors import InvalidMessage
from protos.contract.inputs import (
    CategoryColumn,
    Column,
    ImageInput,
    Input,
    Layout,
    NumericColumn,
    RowInput,
    TextInput,
    WindowInput,
)
from protos.contract.outputs import Classification, Detection, Output, Ranking, Reconstruction, Values
from protos.v1 import manifest_pb2 as pb


def put_input(message: pb.ModelManifest, input: Input) -> None:
    match input:
        case ImageInput():
            image = pb.ImagePreprocess(
                width=input.width,
                height=input.height,
                channels=input.channels,
                layout=enum(input.layout),
                mean=input.mean,
                std=input.std,
            )
            message.preprocess.CopyFrom(image)
        case WindowInput():
            message.window.CopyFrom(pb.WindowInput(channels=input.channels, steps=input.steps, mean=input.mean, std=input.std))
        case RowInput():
            message.row.CopyFrom(pb.RowInput(columns=[_column_to_pb(column) for column in input.columns]))
        case TextInput():
            least, most = input.chars
            message.text.CopyFrom(pb.TextInput(buckets=input.buckets, words=input.words, least_chars=least, most_chars=most))


def input_of(message: pb.ModelManifest) -> Input:
    """Raises InvalidMessage, InvalidValue."""
    match message.WhichOneof("input"):
        case "preprocess":
            image = message.preprocess
            return ImageInput(
                width=image.width,
                height=image.height,
                channels=image.channels,
                layout=Layout(image.layout),
                mean=tuple(image.mean),
                std=tuple(image.std),
            )
        case "window":
            window = message.window
            return WindowInput(
                channels=tuple(window.channels), steps=window.steps, mean=tuple(window.mean), std=tuple(window.std)
            )
        case "row":
            return RowInput(columns=tuple(_column_from_pb(column) for column in message.row.columns))
        case "text":
            text = message.text
            return TextInput(buckets=text.buckets, words=text.words, chars=(text.least_chars, text.most_chars))
    raise InvalidMessage("manifest without an input this agent knows: update the agent")


def put_output(message: pb.ModelManifest, output: Output) -> None:
    match output:
        case Classification():
            message.classification.CopyFrom(
                pb.Classification(labels=output.labels, min_confidence=output.min_confidence, temperature=output.temperature)
            )
        case Ranking():
            message.ranking.CopyFrom(
                pb.Ranking(
                    items=output.labels,
                    top=output.top,
                    min_confidence=output.min_confidence,
                    temperature=output.temperature,
                )
            )
        case Values():
            message.values.CopyFrom(
                pb.Values(names=output.names, mean=output.mean, std=output.std, edges=output.edges, headline=output.headline)
            )
        case Reconstruction():
            message.reconstruction.CopyFrom(
                pb.Reconstruction(values=output.values, threshold=output.threshold, min_confidence=output.min_confidence)
            )
        case Detection():
            message.detection.CopyFrom(
                pb.Detection(
                    classes=output.classes,
                    rows=output.rows,
                    columns=output.columns,
                    stride=output.stride,
                    min_score=output.min_score,
                    max_overlap=output.max_overlap,
                    max_boxes=output.max_boxes,
                    min_confidence=output.min_confidence,
                    temperature=output.temperature,
                )
            )


def output_of(message: pb.ModelManifest) -> Output:
    """Raises InvalidMessage, InvalidValue."""
    match message.WhichOneof("output"):
        case "classification":
            logits = message.classification
            return Classification(
                labels=tuple(logits.labels), min_confidence=logits.min_confidence, temperature=logits.temperature
            )
        case "ranking":
            ranking = message.ranking
            return Ranking(
                labels=tuple(ranking.items),
                top=ranking.top,
                min_confidence=ranking.min_confidence,
                temperature=ranking.temperature,
            )
        case "values":
            values = message.values
            return Values(
                names=tuple(values.names),
                mean=tuple(values.mean),
                std=tuple(values.std),
                edges=tuple(values.edges),
                headline=values.headline,
            )
        case "reconstruction":
            again = message.reconstruction
            return Reconstruction(values=again.values, threshold=again.threshold, min_confidence=again.min_confidence)
        case "detection":
            found = message.detection
            return Detection(
                classes=tuple(found.classes),
                rows=found.rows,
                columns=found.columns,
                stride=found.stride,
                min_score=found.min_score,
                max_overlap=found.max_overlap,
                max_boxes=found.max_boxes,
                min_confidence=found.min_confidence,
                temperature=found.temperature,
            )
    raise InvalidMessage("manifest without an output this agent knows: update the agent")


def _column_to_pb(column: Column) -> pb.RowInput.Column:
    if isinstance(column, CategoryColumn):
        return pb.RowInput.Column(name=column.name, values=column.values)
    return pb.RowInput.Column(name=column.name, mean=column.mean, std=column.std, indicator=column.indicator)


def _column_from_pb(column: pb.RowInput.Column) -> Column:
    if column.values:
        return CategoryColumn(name=column.name, values=tuple(column.values))
    return NumericColumn(name=column.name, mean=column.mean, std=column.std, indicator=column.indicator)
