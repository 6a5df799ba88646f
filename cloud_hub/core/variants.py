"""Which variant of a version a board gets: by what is declared first, and by what devices have measured after."""

from dataclasses import dataclass

from cloud_hub.core.errors import NotReady
from cloud_hub.core.model import MeasuredFit, ModelVersion, Variant
from protos.contract.boards import Board

_FORMAT_OF_RUNTIME = {"onnx": "onnx", "tflite": "tflite", "tflite-legacy": "tflite"}
_PRECISIONS = ("int8", "fp32")  # smaller and faster first
_NOISE = 1.1  # a variant that takes less than this times the fastest one is not called slower


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one target of a version stands on one board."""

    target: str
    variant: Variant | None  # None: not published
    passed_over: str  # why it is not taken; empty: it is the one
    measured: MeasuredFit | None  # None: no device of the board has tried it


def choose(version: ModelVersion, board: Board, runtimes: tuple[str, ...] = ()) -> Variant:
    """``runtimes`` as the device reports them, empty where it never did.

    Raises NotReady where no variant runs there; the message says why for each.
    """
    found = standings(version, board, runtimes)
    chosen = next((one.variant for one in found if not one.passed_over), None)
    if chosen is None:
        reasons = "; ".join(f"{one.target}: {one.passed_over}" for one in found)
        raise NotReady(f"{version.name}:{version.version} has no variant for board {board.name} ({reasons})")
    return chosen


def standings(version: ModelVersion, board: Board, runtimes: tuple[str, ...] = ()) -> list[Standing]:
    """Every target that the board could run, by declaration: int8 before fp32, then the board's own order of runtimes.

    What was measured there passes a variant over for another one: it was slower, or its outputs were off. It never takes the
    last one away: devices judge for themselves, and one that lies must not keep a version from a board. Raises NotReady.
    """
    usable = [runtime for runtime in board.runtimes if not runtimes or runtime in runtimes]
    if not usable:
        raise NotReady(
            f"board {board.name} has runtimes {', '.join(board.runtimes)}, the device reports only {', '.join(runtimes)}"
        )
    targets = dict.fromkeys(f"{_FORMAT_OF_RUNTIME[runtime]}-{precision}" for precision in _PRECISIONS for runtime in usable)
    variants = {target: next((one for one in version.variants if one.target == target), None) for target in targets}
    refused = {target: refusal(variant, board) for target, variant in variants.items()}
    fits = {fit.target: fit for fit in version.fits if fit.board == board.name}
    candidates = [target for target in targets if not refused[target]]
    behind = _behind(candidates, fits)
    left = [target for target in candidates if target not in behind] or candidates
    reasons = refused | {target: behind.get(target) or f"{left[0]} comes first" for target in candidates}
    return [
        Standing(
            target=target,
            variant=variants[target],
            passed_over="" if target in left[:1] else reasons[target],
            measured=fits.get(target),
        )
        for target in targets
    ]


def refusal(variant: Variant | None, board: Board) -> str:
    """Why a board cannot run it, by what is declared; empty: it can."""
    if variant is None:
        return "not published"
    if variant.boards and board.name not in variant.boards:
        return f"only for {', '.join(variant.boards)}"
    if variant.artifact_size_bytes > board.max_model_bytes:
        return f"{variant.artifact_size_bytes} bytes, more than the board's {board.max_model_bytes}"
    return ""


def _behind(candidates: list[str], fits: dict[str, MeasuredFit]) -> dict[str, str]:
    """Those that were measured to be worse than another one, with how."""
    measured = {target: fits[target] for target in candidates if target in fits}
    behind = {
        target: f"its outputs there are off by {fit.error:.3g} times what is tolerated"
        for target, fit in measured.items()
        if fit.error > 1
    }
    sound = {target: fit.p50_ms for target, fit in measured.items() if target not in behind}
    if sound:
        fastest = min(sound, key=lambda target: sound[target])
        for target, p50_ms in sound.items():
            if p50_ms > _NOISE * sound[fastest]:
                behind[target] = f"slower there: p50 {p50_ms:.3g} ms, {fastest} takes {sound[fastest]:.3g} ms"
    return behind
