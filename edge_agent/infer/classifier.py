"""Frame -> prediction with one loaded model."""

from edge_agent.core.errors import InferenceError
from edge_agent.core.model import Frame, Prediction
from edge_agent.core.ports import Runtime
from edge_agent.infer.postprocess import classify
from edge_agent.infer.preprocess import preprocess
from edge_agent.infer.runtimes import check_fit
from edge_agent.infer.timing import timed
from protos.contract.manifest import Manifest


class Classifier:
    """A manifest and its runtime. Not thread-safe. Raises BadModel where the two do not fit."""

    def __init__(self, manifest: Manifest, runtime: Runtime) -> None:
        check_fit(runtime, manifest)
        self.manifest = manifest
        self._runtime = runtime
        self._classes = len(manifest.classification.labels)

    def predict(self, frame: Frame) -> Prediction:
        """The prediction's latency is that of the runtime alone.

        Raises:
            BadFrame: the frame cannot be turned into the model's input.
            InferenceError: the runtime failed, or its output holds NaN or infinity or is not one value per label.
        """
        tensor = preprocess(frame, self.manifest.preprocess)
        logits, latency_ms = timed(self._runtime, tensor)
        if logits.shape != (self._classes,):
            raise InferenceError(f"the model gave {logits.shape} values for {self._classes} labels")
        return classify(logits, self.manifest.classification, latency_ms)
