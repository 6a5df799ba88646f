"""A worker may die, hang or lie: the agent goes on."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.core.backoff import Backoff
from edge_agent.core.errors import BadModel, InferenceError
from edge_agent.infer import canary, jail
from edge_agent.infer.channel import Kind, Malformed, Report, share
from edge_agent.infer.life import Limits
from edge_agent.infer.preprocess import preprocess
from edge_agent.infer.process import Process, begun_early
from edge_agent.infer.remote import RemoteRuntime
from protos.contract.manifest import Format
from tests.agent.infer import traps
from tests.agent.models import SPEC, ModelFiles, bundle, files
from tests.conftest import REPOSITORY

QUICK = Limits(start_s=20.0, hang_s=0.3)
TENSOR: NDArray[np.float32] = np.random.default_rng(3).normal(0, 1, SPEC.shape).astype(np.float32)
HONEST = [1.0, 2.0, 3.0, 4.0]


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def gone(pid: int | None) -> bool:
    return not Path(f"/proc/{pid}").exists()


def answers(runtime: RemoteRuntime) -> bool:
    try:
        return runtime.run(TENSOR).shape == (4,)
    except InferenceError:
        return False


def children() -> list[int]:
    """Of this process, zombies too; not what other tests' fixtures have started before."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found += [int(pid) for pid in (task / "children").read_text().split() if _is_worker(int(pid))]
    return found


def _is_worker(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
    return not words or b".infer." in words  # a zombie has none left


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Runtimes:
    """Begins them, and ends them after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, list[RemoteRuntime]()

    def real(self, model: ModelFiles | None = None, **options: object) -> RemoteRuntime:
        model = model or files()
        return self._keep(RemoteRuntime(model.manifest, model.write(self.folder)[1], **options))  # type: ignore[arg-type]

    def hostile(self, behaviour: str, **options: object) -> RemoteRuntime:
        """A worker of ``tests.agent.infer.hostile``."""
        model = bundle(behaviour.encode(), Format.ONNX, files().golden)
        options = {"limits": QUICK, "pauses": Backoff(0.001, 0.001), "begin": begin_hostile} | options
        return self.real(model, **options)

    def _keep(self, runtime: RemoteRuntime) -> RemoteRuntime:
        self.made.append(runtime)
        return runtime


def begin_hostile() -> Process:
    return Process("tests.agent.infer.hostile")


@pytest.fixture
def runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtimes]:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    made = Runtimes(tmp_path)
    yield made
    for runtime in made.made:
        runtime.close()
    assert children() == []


# -- the worker as it is ------------------------------------------------------------------------------------------------


NO_RUNTIME = """
import sys
from pathlib import Path
import numpy as np
from edge_agent.infer.canary import try_model
from edge_agent.infer.remote import RemoteRuntime
from protos.contract import codec
manifest, model, golden = map(Path, sys.argv[1:])
try_model(manifest, model, golden, 60)
runtime = RemoteRuntime(codec.decode_manifest(manifest.read_bytes()), model)
runtime.run(np.zeros(runtime.input_shape, np.float32))
print({"onnxruntime", "ai_edge_litert", "tflite_runtime"} & set(sys.modules), "onnxruntime" in open("/proc/self/maps").read())
"""


def test_the_agent_itself_never_loads_a_runtime(tmp_path: Path) -> None:
    paths = map(str, files().write(tmp_path))
    out = subprocess.run([sys.executable, "-c", NO_RUNTIME, *paths], capture_output=True, text=True)
    assert out.stdout.split() == ["set()", "False"], out.stderr


def test_the_worker_is_jailed_alone_in_its_session_and_the_first_to_go(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the agent")
    pid = runtimes.real().pid
    assert pid is not None
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    if any(part.name == "system-calls" and part.holds for part in jail.standing()):
        assert status["Seccomp"] == "2"
    assert os.getsid(pid) == pid
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 500
    assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
    opened = {str(path.readlink()).partition("[")[0] for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert opened == {"/dev/null", "pipe:", "socket:", "/memfd:tensors (deleted)"}, "nothing of the agent, and no model"


def test_a_signal_that_is_meant_for_the_agent_leaves_the_worker_alone(runtimes: Runtimes) -> None:
    runtime = runtimes.real()
    pid = runtime.pid
    assert pid is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert runtime.run(TENSOR).shape == (4,)
    assert (runtime.pid, runtime.crashes) == (pid, 0)


@pytest.mark.parametrize("busy", [False, True])
def test_the_worker_dies_with_the_agent(runtimes: Runtimes, busy: bool) -> None:
    """Idle it sees the channel end; in an inference that hangs only the kernel can tell it."""
    model = bundle(b"hang", Format.ONNX, files().golden) if busy else files()
    manifest, path, _ = model.write(runtimes.folder)
    code = """
import sys, threading, time
from pathlib import Path
import numpy as np
from edge_agent.infer.life import Limits
from edge_agent.infer.remote import RemoteRuntime
from edge_agent.infer.process import Process
from protos.contract import codec
begin = (lambda: Process("tests.agent.infer.leashed")) if sys.argv[3] == "True" else Process
manifest = codec.decode_manifest(Path(sys.argv[1]).read_bytes())
runtime = RemoteRuntime(manifest, Path(sys.argv[2]), begin=begin, limits=Limits(hang_s=60))
print(runtime.pid, flush=True)
runtime.run(np.zeros(runtime.input_shape, np.float32))
time.sleep(60)
"""
    agent = subprocess.Popen([sys.executable, "-c", code, manifest, path, str(busy)], stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    worker = int(agent.stdout.readline())
    assert not gone(worker)
    agent.kill()
    agent.communicate()
    wait_until(lambda: gone(worker))


def test_a_process_that_began_early_is_used_first_and_closed_where_it_is_not_needed(runtimes: Runtimes) -> None:
    with begun_early() as blank:
        assert blank is not None
        runtime = runtimes.real(blank=blank)
        assert runtime.pid == blank.pid
        assert runtime.run(TENSOR).shape == (4,)
    wait_until(lambda: runtime.crashes == 1 and runtime.pid is not None)
    with begun_early() as unused:
        assert unused is not None
    assert gone(unused.pid)


def test_where_no_process_can_be_begun_early_the_agent_starts_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = descriptors()
    monkeypatch.setattr("edge_agent.infer.process.subprocess.Popen", full)
    with begun_early() as blank:
        assert blank is None
    assert descriptors() == before


# -- a worker that dies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_is_killed_is_replaced_by_one_that_answers_the_same(runtimes: Runtimes, number: signal.Signals) -> None:
    told: list[tuple[str, int]] = []
    runtime = runtimes.real(pauses=Backoff(0.001, 0.001), lost=lambda reason, crashes: told.append((reason, crashes)))
    before, pid = runtime.run(TENSOR), runtime.pid
    assert pid is not None
    os.kill(pid, number)
    wait_until(lambda: runtime.pid not in (None, pid))
    assert np.array_equal(runtime.run(TENSOR), before)
    assert (runtime.crashes, gone(pid)) == (1, True)
    assert told == [(f"the runtime died with signal {int(number)} ({number.name})", 1)] and runtime.last_crash == told[0][0]


def test_a_worker_that_is_killed_during_an_inference_fails_that_one_at_once(runtimes: Runtimes) -> None:
    runtime = runtimes.hostile("hang", limits=replace(QUICK, hang_s=60.0))
    pid = runtime.pid
    assert pid is not None
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    started = time.monotonic()
    with pytest.raises(InferenceError, match=r"died with signal 9 \(SIGKILL\)"):
        runtime.run(TENSOR)
    assert time.monotonic() - started < 10


def test_between_two_workers_every_inference_fails_at_once_with_the_reason(runtimes: Runtimes) -> None:
    runtime = runtimes.real(pauses=Backoff(600.0, 600.0))
    assert runtime.pid is not None
    os.kill(runtime.pid, signal.SIGKILL)
    wait_until(lambda: runtime.pid is None)
    with pytest.raises(InferenceError, match=r"started again: the runtime died with signal 9"):
        runtime.run(TENSOR)


def test_a_worker_that_hangs_is_killed_and_replaced(runtimes: Runtimes) -> None:
    runtime = runtimes.real(limits=QUICK, pauses=Backoff(0.001, 0.001))
    pid = runtime.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(InferenceError, match=r"an inference took longer than 0.3 s"):
        runtime.run(TENSOR)
    wait_until(lambda: runtime.pid not in (None, pid))
    assert runtime.run(TENSOR).shape == (4,) and gone(pid)
    assert runtime.last_crash == "an inference took longer than 0.3 s"


def test_a_model_that_hangs_on_what_the_device_sees_loses_its_worker_and_not_the_agent(runtimes: Runtimes) -> None:
    trap = traps.hangs_on_white()
    assert canary.try_model(*trap.write(runtimes.folder), 60.0).error < 1
    runtime = runtimes.real(trap, limits=Limits(hang_s=1.0), pauses=Backoff(0.001, 0.001))
    good, pid = runtime.run(TENSOR), runtime.pid
    with pytest.raises(InferenceError, match="an inference took longer than 1 s"):
        runtime.run(preprocess(traps.WHITE, SPEC))
    wait_until(lambda: runtime.pid not in (None, pid))
    assert np.array_equal(runtime.run(TENSOR), good)
    assert gone(pid) and runtime.crashes == 1


def test_a_model_that_takes_all_memory_gets_none_beyond_its_limit(runtimes: Runtimes) -> None:
    runtime = runtimes.real(traps.takes_all_memory_on_white(), pauses=Backoff(0.001, 0.001))
    good = runtime.run(TENSOR)
    with pytest.raises(InferenceError):
        runtime.run(preprocess(traps.WHITE, SPEC))
    wait_until(lambda: answers(runtime))
    assert np.array_equal(runtime.run(TENSOR), good)


def test_pauses_between_workers_grow(runtimes: Runtimes) -> None:
    asked: list[float] = []

    class Watched(Backoff):
        def next(self) -> float:
            asked.append(super().next())
            return 0.001

    runtime = runtimes.hostile("end", pauses=Watched(0.1, 30.0, jitter=lambda: 1.0))
    for crashes in range(1, 5):
        with pytest.raises(InferenceError):
            runtime.run(TENSOR)
        wait_until(lambda crashes=crashes: runtime.crashes == crashes and runtime.pid is not None)
    assert asked == [0.1, 0.2, 0.4, 0.8]
    assert runtime.last_crash == "the worker ended with status 7: no more"


def test_a_model_whose_file_was_changed_is_not_loaded_again(runtimes: Runtimes) -> None:
    runtime = runtimes.real(pauses=Backoff(0.001, 0.001))
    model = runtimes.folder / "model.bin"
    model.write_bytes(bytes(model.stat().st_size))
    assert runtime.pid is not None
    os.kill(runtime.pid, signal.SIGKILL)
    wait_until(lambda: "is not sha256:" in runtime.last_crash)
    with pytest.raises(InferenceError, match="is not sha256:"):
        runtime.run(TENSOR)


@pytest.mark.parametrize("behaviour", ["crash while loading", "end while loading", "garbage while loading"])
def test_a_worker_that_dies_twice_before_it_is_ready_has_a_bad_model(runtimes: Runtimes, behaviour: str) -> None:
    with pytest.raises(
        BadModel, match=r"model.bin: (the runtime died with signal 11|the worker ended with status 7|it answered)"
    ):
        runtimes.hostile(behaviour)


def test_a_worker_that_dies_once_at_the_start_is_replaced_and_counted(runtimes: Runtimes) -> None:
    """It may have been the machine: memory was short, or everything was slow."""
    broken = Process("tests.agent.infer.nothing")
    runtime = runtimes.real(blank=broken, pauses=Backoff(0.001, 0.001))
    assert runtime.run(TENSOR).shape == (4,)
    assert runtime.crashes == 1 and "No module named" in runtime.last_crash


def test_a_worker_that_hangs_while_loading_has_a_bad_model(runtimes: Runtimes) -> None:
    with pytest.raises(BadModel, match="loading took longer than 0.2 s"):
        runtimes.hostile("hang while loading", limits=Limits(start_s=0.2))


def test_where_there_is_no_room_for_a_worker_it_is_tried_again_and_no_model_is_blamed(runtimes: Runtimes) -> None:
    room = threading.Event()

    def begin() -> Process:
        if not room.is_set():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return Process()

    runtime = runtimes.real(begin=begin, pauses=Backoff(0.001, 0.001))
    with pytest.raises(InferenceError, match="no room for a worker: Resource temporarily"):
        runtime.run(TENSOR)
    room.set()
    wait_until(lambda: runtime.pid is not None)
    assert runtime.run(TENSOR).shape == (4,)


def test_a_loss_that_cannot_be_told_does_not_end_the_tending(runtimes: Runtimes) -> None:
    def lost(reason: str, crashes: int) -> None:
        raise OSError(5, "Input/output error")

    runtime = runtimes.real(lost=lost, pauses=Backoff(0.001, 0.001))
    assert runtime.pid is not None
    os.kill(runtime.pid, signal.SIGKILL)
    wait_until(lambda: runtime.crashes == 1 and answers(runtime))


def test_an_error_that_nobody_thought_of_is_tried_again_and_no_model_is_blamed(runtimes: Runtimes) -> None:
    faults = [RuntimeError("can't start new thread")]

    def begin() -> Process:
        if faults:
            raise faults.pop()
        return Process()

    runtime = runtimes.real(begin=begin, pauses=Backoff(0.001, 0.001))
    wait_until(lambda: answers(runtime))
    assert (runtime.crashes, runtime.last_crash) == (1, "RuntimeError: can't start new thread")


def test_a_process_that_began_early_ends_where_the_file_is_not_the_model(runtimes: Runtimes) -> None:
    blank = Process()
    with pytest.raises(BadModel, match="fetch it again"):
        model = files()
        path = model.write(runtimes.folder)[1]
        path.write_bytes(b"rotten")
        RemoteRuntime(model.manifest, path, blank=blank)
    assert gone(blank.pid)


def test_a_runtime_that_was_closed_says_so_and_its_worker_is_gone(runtimes: Runtimes) -> None:
    runtime = runtimes.real()
    pid = runtime.pid
    runtime.close()
    assert gone(pid)
    with pytest.raises(InferenceError, match="closed"):
        runtime.run(TENSOR)
    assert runtime.crashes == 0


def test_closing_during_an_inference_ends_it(runtimes: Runtimes) -> None:
    runtime = runtimes.hostile("hang", limits=replace(QUICK, hang_s=60.0))
    ended = threading.Event()

    def infer() -> None:
        with pytest.raises(InferenceError):
            runtime.run(TENSOR)
        ended.set()

    thread = threading.Thread(target=infer)
    thread.start()
    runtime.close()
    thread.join(10)
    assert ended.is_set() and runtime.crashes == 0


def test_two_hundred_restarts_leave_no_descriptor_no_process_and_no_thread(runtimes: Runtimes) -> None:
    runtime = runtimes.hostile("end")
    wait_until(lambda: runtime.pid is not None)
    before = descriptors(), threading.active_count(), shared_kb()
    for crashes in range(1, 201):
        with pytest.raises(InferenceError):
            runtime.run(TENSOR)
        wait_until(lambda crashes=crashes: runtime.crashes == crashes and runtime.pid is not None)
    assert (descriptors(), threading.active_count()) == before[:2]
    assert shared_kb() <= before[2] + 64
    assert children() == [runtime.pid]


def shared_kb() -> int:
    """Shared memory that this process has mapped."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssShmem"))


# -- a worker that lies -------------------------------------------------------------------------------------------------

ONLY_NUMBERS = ["honest", "flood its output", "resize the memory", "rewrite the model", "smuggle descriptors"]
REFUSED = {
    "nan": "NaN", "infinity": "NaN or infinity", "more values": r"gave \(5,\) values for 4 labels",
    "no values": r"gave \(0,\) values", "four billion values": r"gave \(4294967295,\) values", "an old answer": "nobody asked",
    "a future answer": "nobody asked", "ready again": "nobody asked", "refused late": "nobody asked",
    "an empty packet": "signal 9", "one byte": "no answer", "no such kind": "no answer",
    "a packet of 60 KB": "no answer", "a long reason": "\ufffd{200}", "hang": "took longer", "crash": "signal 11",
    "end": "status 7", "close the channel and live": "signal 9", "fork and end": "took longer|status 0",
}  # fmt: skip


@pytest.mark.parametrize("behaviour", ONLY_NUMBERS)
def test_a_hostile_worker_can_answer_numbers_and_nothing_else(runtimes: Runtimes, behaviour: str) -> None:
    runtime = runtimes.hostile(behaviour)
    opened = descriptors()
    for _ in range(3):
        assert runtime.run(TENSOR).tolist() == HONEST
    assert descriptors() == opened


@pytest.mark.parametrize("behaviour", REFUSED)
def test_whatever_else_it_answers_is_a_failed_inference(runtimes: Runtimes, behaviour: str) -> None:
    runtime = runtimes.hostile(behaviour)
    with pytest.raises(InferenceError, match=REFUSED[behaviour]):
        runtime.run(TENSOR)


def test_an_answer_too_many_ends_the_worker_at_the_next_request(runtimes: Runtimes) -> None:
    runtime = runtimes.hostile("two answers")
    assert runtime.run(TENSOR).tolist() == HONEST
    with pytest.raises(InferenceError, match="nobody asked"):
        runtime.run(TENSOR)


def test_its_reasons_cannot_forge_a_line_of_the_log(runtimes: Runtimes) -> None:
    runtime = runtimes.hostile("lines in a reason")
    with pytest.raises(InferenceError) as failed:
        runtime.run(TENSOR)
    assert str(failed.value).isprintable()
    assert '{"level": "INFO"}' in str(failed.value)


@pytest.mark.parametrize("behaviour", ["another shape", "no shape"])
def test_a_model_that_takes_another_tensor_is_refused(runtimes: Runtimes, behaviour: str) -> None:
    with pytest.raises(BadModel, match="its manifest makes"):
        runtimes.hostile(behaviour)


@pytest.mark.parametrize("behaviour", ["a shape of a thousand sides", "an answer while loading"])
def test_what_is_no_report_while_loading_is_a_bad_model(runtimes: Runtimes, behaviour: str) -> None:
    with pytest.raises(BadModel, match="it answered what"):
        runtimes.hostile(behaviour)


def test_any_bytes_are_a_report_or_malformed() -> None:
    rng = np.random.default_rng(5)
    kinds = set()
    for _ in range(20_000):
        data = rng.integers(0, 256, rng.integers(0, 80), np.uint8).tobytes()
        if rng.random() < 0.7:
            data = bytes([rng.integers(0, 6), 0, 0, 0]) + data
        try:
            report = Report.decode(data)
        except Malformed:
            continue
        assert report.text.isprintable() and len(report.shape) <= 8
        kinds.add(report.kind)
    assert kinds == set(Kind)


def test_shared_memory_keeps_its_size_for_ever() -> None:
    descriptor = share(4096)
    for size in (0, 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    os.close(descriptor)
