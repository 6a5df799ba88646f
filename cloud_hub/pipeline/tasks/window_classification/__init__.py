"""What happens in a window of readings: one of several classes."""

from cloud_hub.core.tasks import Annotation, Metric, TaskDeclaration
from cloud_hub.pipeline.tasks.sections import ConvSpec, WindowSpec
from protos.contract.inputs import SampleKind


def _teacher() -> ConvSpec:
    return ConvSpec(width=24, dropout=0.2, epochs=25)


def _student() -> ConvSpec:
    return ConvSpec(width=12, epochs=30)


TASK = TaskDeclaration(
    name="window-classification",
    kind=SampleKind.WINDOW,
    annotation=Annotation.CLASS,
    # Most of what sensors see is normal: the mean over classes keeps a model that always says so from looking good, and unlike
    # mean recall it also counts false alarms.
    metric=Metric(name="macro_f1"),
    bound=0.6,
    preprocess=WindowSpec,
    network=ConvSpec,
    teacher=_teacher,
    student=_student,
    losses=("cross-entropy", "focal"),
    augmentations=("noise", "scale", "mask", "flip-time"),
    augment=("noise", "scale"),  # flipping changes the meaning: braking becomes acceleration
    implementation="cloud_hub.pipeline.tasks.window_classification.task:WindowClassification",
)
