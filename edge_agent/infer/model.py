"""Sample -> prediction with one loaded model."""

from edge_agent.core.errors import InferenceError
from edge_agent.core.model import Content, Prediction
from edge_agent.core.ports import Runtime
from edge_agent.infer.answers import answerer
from edge_agent.infer.inputs import encoder
from edge_agent.infer.runtimes import check_fit
from edge_agent.infer.timing import timed
from protos.contract.manifest import Manifest


class Model:
    """A manifest and its runtime. Not thread-safe. Raises BadModel where the two do not fit."""

    def __init__(self, manifest: Manifest, runtime: Runtime) -> None:
        check_fit(runtime, manifest)
        self.manifest = manifest
        self.labels = manifest.output.labels  # kept: some outputs make theirs anew each time
        self._runtime, self._size = runtime, manifest.output.size
        self._encode, self._answer = encoder(manifest.input), answerer(manifest.output)

    def predict(self, content: Content) -> Prediction:
        """The prediction's latency is that of the runtime alone.

        Raises:
            BadFrame: the sample cannot be turned into the model's input.
            InferenceError: the runtime failed, or its output holds NaN, infinity or another count of values.
        """
        tensor = self._encode(content)
        outputs, latency_ms = timed(self._runtime, tensor)
        if outputs.shape != (self._size,):
            raise InferenceError(f"the model gave {outputs.shape} values, its manifest says {self._size}")
        return self._answer(outputs, tensor, latency_ms)
