"""What a run takes: bytes by part, and operations, each as low - expected - high.

Exact are weights, gradients and optimizer, which follow from the parameters. Activations, logits and the most held at
one time come from a rehearsal (`engine/rehearsal.py`): low for a row of average samples, expected for the longest row
of a shuffled epoch, high for the longest samples side by side.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy
import psutil
import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from medcli.core.train_settings import TrainSettings
from medcli.engine.loaded import Loaded
from medcli.engine.objective import Objective
from medcli.engine.pack import GRAIN, Example, Pairs, Samples, flat
from medcli.engine.rehearsal import HALVES, Rehearsal, guessed, rehearse

GIB = 2**30
# nf4: half a byte a weight, a byte for the scale of 64 weights, 4 for 256 such scales (QLoRA, Dettmers et al. 2023).
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# What the driver and the kernels of a CUDA process take before the first tensor: 0.3 GiB when kernels are loaded as
# they are needed, 0.7 when all at once (discuss.pytorch.org/t/73021), more with the workspaces of cuBLAS.
CUDA_CONTEXT = (0.3, 0.6, 1.0)
# What an allocator holds for what a step asks for: torch's on a GPU is taken to lose little by fragments; the C
# library's, with megabytes made and dropped all the time, held 1 to 3.3 times as much in `benchmarks/memory.py`.
OF_GPU_ALLOCATOR = (1.0, 1.0, 1.15)
OF_C_LIBRARY = (0.9, 1.5, 3.5)
# Of a memory's bandwidth, what drawing answers token by token is taken to reach. A wide guess: each token's many small
# kernels are started from Python one by one, which costs small models more than their weights' way to the processor.
OF_BANDWIDTH = (0.1, 0.25, 0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A figure that is not known exactly."""

    low: float
    expected: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(low=self.low + other.low, expected=self.expected + other.expected, high=self.high + other.high)


def exactly(value: float) -> Range:
    """A figure that is known."""
    return Range(low=value, expected=value, high=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a run is to take place: whether on a GPU, in which precision, and the bytes taken before anything else."""

    on_gpu: bool
    precision: str
    overhead: Range

    @property
    def slack(self) -> tuple[float, float, float]:
        """What the allocator holds, as a multiple of what a step asks for."""
        return OF_GPU_ALLOCATOR if self.on_gpu else OF_C_LIBRARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes by part, the bytes held at one time at most (`total`), and the operations of the run on one device.

    The parts do not all stand at their most at one time, so `total` may be less than their sum. `guessed` is set when
    the model's step could not be rehearsed. `streamed` are the bytes that answers, drawn token by token, make pass
    from memory to the processor.
    """

    parts: tuple[tuple[str, Range], ...]
    total: Range
    operations: float
    guessed: bool
    streamed: Range = Range(low=0, expected=0, high=0)


def target_of(device: torch.device | None, precision: str) -> Target:
    """The target of a device of this machine, or of a GPU that is only named (None)."""
    if device is not None and device.type == "cpu":
        libraries = float(psutil.Process().memory_info().rss)
        return Target(
            on_gpu=False,
            precision=precision,
            overhead=Range(low=0.9 * libraries, expected=libraries, high=1.2 * libraries),
        )
    low, expected, high = (share * GIB for share in CUDA_CONTEXT)
    return Target(on_gpu=True, precision=precision, overhead=Range(low=low, expected=expected, high=high))


def estimate(
    loaded: Loaded,
    settings: TrainSettings,
    data: Samples,
    *,
    quant: str,
    target: Target,
    steps: int,
    objective: Objective | None = None,
    read_before: float = 0.0,
) -> Estimate:
    """What training `loaded` on `data` for `steps` optimizer steps takes.

    The loss is the model's own, or the `objective`'s. `read_before` is how often all of `data` is read before the first
    step, with nothing learnt: what a reference model has to say of it.
    """
    average, longest, usual = rows(data, settings, steps)
    short, is_guess = step_of(loaded, settings, average, target, objective)
    is_same = [example.number for example in longest] == [example.number for example in average]
    long = short if is_same else step_of(loaded, settings, longest, target, objective)[0]
    tokens = (short.tokens, min(max(usual, short.tokens), long.tokens), long.tokens)
    share = _shared_out(settings)
    weights, optimizer = weight_bytes(loaded, quant) / share.weights, optimizer_bytes(loaded.model) / share.optimizer
    gradients = gradient_bytes(loaded.model) / share.optimizer
    names = ("copies", "activations", "logits", "peak")
    copies, activations, logits, peak = (_between(name, short, long, tokens) for name in names)
    parts = (
        ("weights", exactly(weights)),
        ("weights in half precision", copies),
        ("gradients", exactly(gradients)),
        ("optimizer", exactly(optimizer)),
        ("activations", activations),
        ("logits and loss", logits),
        ("libraries and context", target.overhead),
    )
    passes = steps * settings.batch * settings.accumulate / len(data)
    operations = passes * an_epoch(data, average, short, target)
    if read_before:
        read = step_of(loaded, settings, average, target, objective, learns=False)[0]
        operations += read_before * an_epoch(data, average, read, target)
    return Estimate(
        parts=parts,
        total=total_of(loaded, weights + optimizer + beside_bytes(loaded, settings, quant), peak, target),
        operations=operations,
        guessed=is_guess,
    )


def total_bytes(
    loaded: Loaded,
    settings: TrainSettings,
    row: Sequence[Example],
    *,
    quant: str,
    target: Target,
    objective: Objective | None = None,
) -> float:
    """The bytes held at one time, at most, when `row` is the longest one: the high end of `Estimate.total`."""
    step, _ = step_of(loaded, settings, row, target, objective)
    share = _shared_out(settings)
    weights, optimizer = weight_bytes(loaded, quant) / share.weights, optimizer_bytes(loaded.model) / share.optimizer
    return total_of(
        loaded, weights + optimizer + beside_bytes(loaded, settings, quant), exactly(step.peak), target
    ).high


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """Among how many processes weights lie, and gradients with the optimizer's states."""

    weights: int
    optimizer: int


def _shared_out(settings: TrainSettings) -> _Share:
    processes = settings.devices * settings.nodes
    return _Share(
        weights=processes if settings.strategy in ("fsdp2", "zero3") else 1,
        optimizer=processes if settings.strategy in ("fsdp2", "zero2", "zero3") else 1,
    )


def beside_bytes(loaded: Loaded, settings: TrainSettings, quant: str) -> float:
    """What is held beside weights, optimizer and a step: a matrix unpacked, and what sharding adds and takes away.

    Where weights are shared out, two layers are whole at a time, the one at work and the next. The rehearsed step has
    all gradients whole; of each, a process keeps its share.
    """
    share = _shared_out(settings)
    kept = gradient_bytes(loaded.model) * (1 - 1 / share.optimizer)
    layers = [layer for layer in loaded.causal_lm.modules() if isinstance(layer, GradientCheckpointingLayer)]
    largest = max((sum(weight.nbytes for weight in layer.parameters()) for layer in layers), default=0)
    return unpacked_bytes(loaded, quant) - kept + (2 * largest if share.weights > 1 else 0)


def weight_bytes(loaded: Loaded, quant: str) -> int:
    """Parameters and buffers as they lie in memory; `quant` "4bit" or "8bit" packs frozen matrices, not the head's."""
    packed = {id(matrix): matrix for matrix in _packed(loaded)} if quant != "none" else {}
    whole = [tensor for tensor in [*loaded.model.parameters(), *loaded.model.buffers()] if id(tensor) not in packed]
    few = sum(NF4 * m.numel() if quant == "4bit" else m.numel() + 4 * m.shape[0] for m in packed.values())
    return int(sum(tensor.nbytes for tensor in whole) + few)


def unpacked_bytes(loaded: Loaded, quant: str) -> int:
    """The largest matrix of few bits in half precision: products need it so, one at a time."""
    return 0 if quant == "none" else 2 * max((matrix.numel() for matrix in _packed(loaded)), default=0)


def gradient_bytes(model: nn.Module) -> int:
    """One number for each that learns, in its precision."""
    return sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)


def optimizer_bytes(model: nn.Module) -> int:
    """AdamW's two moments of each number that learns, and its count of steps, 4 bytes a tensor."""
    return sum(2 * weight.nbytes + 4 for weight in model.parameters() if weight.requires_grad)


def rows(data: Samples, settings: TrainSettings, steps: int) -> tuple[list[Example], list[Example], int]:
    """A row of average samples, the row of the longest ones, and the tokens of the longest row of a shuffled epoch."""
    lengths = data.lengths
    order, batch = lengths.argsort(kind="stable"), min(settings.batch, len(lengths))
    start = int(lengths[order].searchsorted(lengths.mean())) - batch // 2
    start = min(max(start, 0), len(order) - batch)
    middle, last = order[start : start + batch], order[-batch:]
    shuffled = numpy.random.default_rng(settings.seed).permutation(lengths)[: len(lengths) // batch * batch]
    seen = shuffled.reshape(-1, batch)[: steps * settings.accumulate]
    if settings.packing:
        usual = -(-int(seen.sum(1).max()) // GRAIN) * GRAIN
    else:
        usual = int(lengths.max()) * batch  # rows of like length are put together, the longest among them
    return _examples(data, middle), _examples(data, last), usual


def longest_row(data: Samples, settings: TrainSettings) -> list[Example]:
    """The longest samples side by side, cut to `settings.max_length`: the row that decides what fits.

    Both answers of a pair may have that length. Of each text the end is kept, as of dialogues.
    """
    _, longest, _ = rows(data, settings, 1)
    room, kept = settings.max_length * settings.batch * (2 if isinstance(data, Pairs) else 1), []
    for example in longest:
        length = min(settings.max_length, room, len(example.ids))
        room -= length
        if length:
            kept.append(replace(example, ids=example.ids[-length:], trained=example.trained[-length:]))
    return kept


def measured_speed(device: torch.device, precision: str) -> float:
    """Operations a second of a matrix product on `device`, the best of several within half a second."""
    size = 1024 if device.type == "cpu" else 8192
    dtype = HALVES.get(precision, torch.float32)
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, ends = float("inf"), time.monotonic() + 0.4
    while time.monotonic() < ends or best == float("inf"):
        started = time.monotonic()
        product = one @ other
        float(product[0, 0])  # waits until it is there
        best = min(best, time.monotonic() - started)
    return 2 * size**3 / best


def measured_bandwidth(device: torch.device) -> float:
    """Bytes a second that `device` reads from its memory: the best sum of many numbers within 0.3 seconds."""
    numbers = torch.ones(2**26 if device.type == "cpu" else 2**28, device=device)
    best, ends = float("inf"), time.monotonic() + 0.3
    while time.monotonic() < ends or best == float("inf"):
        started = time.monotonic()
        float(numbers.sum())
        best = min(best, time.monotonic() - started)
    return numbers.nbytes / best


def hours(operations: float, speed: float, shares: tuple[float, float, float]) -> Range:
    """Hours of `operations` at a share of `speed` (operations a second)."""
    slow, usual, fast = (operations / (speed * share) / 3600 for share in shares)
    return Range(low=fast, expected=usual, high=slow)


def hours_of_reading(streamed: Range, bandwidth: float) -> Range:
    """Hours in which so many bytes pass from memory to the processor, at a share of `bandwidth` (bytes a second)."""
    slow, usual, fast = (bandwidth * share * 3600 for share in OF_BANDWIDTH)
    return Range(low=streamed.low / fast, expected=streamed.expected / usual, high=streamed.high / slow)


def step_of(
    loaded: Loaded,
    settings: TrainSettings,
    examples: Sequence[Example],
    target: Target,
    objective: Objective | None = None,
    *,
    learns: bool = True,
) -> tuple[Rehearsal, bool]:
    """The rehearsed step, or a guessed one (True) where torch has no fake for what the model does."""
    try:
        done = rehearse(
            loaded,
            settings,
            examples,
            precision=target.precision,
            on_gpu=target.on_gpu,
            objective=objective,
            learns=learns,
        )
    except RuntimeError:  # experts chosen by their scores, kernels without shapes: torch names it in many ways
        return guessed(loaded, settings, examples, learns=learns), True
    return done, False


def _between(name: str, short: Rehearsal, long: Rehearsal, tokens: tuple[int, int, int]) -> Range:
    """The figure of both rows, and of one between them: all grow with the tokens, from a fixed part on."""
    low, high = (float(attrgetter(name)(step)) for step in (short, long))
    share = (tokens[1] - tokens[0]) / (tokens[2] - tokens[0]) if tokens[2] > tokens[0] else 1.0
    return Range(low=low, expected=low + share * (high - low), high=high)


def total_of(loaded: Loaded, steady: float, peak: Range, target: Target) -> Range:
    """On a CPU matrices are loaded in float32 and then halved; what that frees lies in pieces too small for a step."""
    low, expected, high = target.slack
    freed = 0 if target.on_gpu else sum(w.nbytes for w in loaded.model.parameters() if w.dtype == torch.bfloat16)
    held = Range(low=peak.low * low, expected=peak.expected * expected + freed, high=peak.high * high + freed)
    return exactly(steady) + held + target.overhead


def an_epoch(data: Samples, row: Sequence[Example], step: Rehearsal, target: Target) -> float:
    """Operations of one pass over `data`, from those of one row.

    Products grow with the tokens, attention with the square of each document's; half of that is past, hence skipped.
    """
    lengths = numpy.array([len(example.ids) for example in row], dtype=float)
    documents = data.examples.lengths
    one_row = target.on_gpu and target.precision in HALVES
    squares = float(step.tokens) ** 2 if one_row else float((lengths**2).sum())
    attention = step.attention / squares * float((documents.astype(float) ** 2).sum()) / 2
    return step.products / float(lengths.sum()) * data.tokens + attention


def _packed(loaded: Loaded) -> list[Any]:
    """The frozen matrices that bitsandbytes packs: all linear layers but the head."""
    model, head = loaded.causal_lm, loaded.head
    names = [name for name, module in model.named_modules() if module is head]
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not module.weight.requires_grad and not name.startswith(tuple(names))
    ]


def _examples(data: Samples, numbers: numpy.ndarray) -> list[Example]:
    return flat([data[int(number)] for number in numbers])
