"""What a frozen trunk gives, stored in the first epoch and read from disk from then on.

The hidden states that leave the trunk are written to one file: [tokens of the data, width], in their own precision,
each example at its own place. A batch whose examples are all there skips the trunk (see `engine/trunk.py`).

The rows of an example depend, by rounding, on the batch they were computed in. So the file is keyed by all that decides
this, batch size and seed too: a resumed or repeated run reads the very bits that it would compute.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn

from medcli.core import cache, world
from medcli.core.atomic import storage_error, writing
from medcli.core.errors import StorageError
from medcli.core.report import Report
from medcli.core.settings import folder
from medcli.core.tuner_settings import FreezeSettings
from medcli.engine.loaded import Loaded
from medcli.engine.pack import Blocks, Example, Samples, flat
from medcli.engine.train_arguments import precision_of, steps_of
from medcli.engine.trunk import Trial, Trunk, places_of, skippable, try_out

_TRIED = 2  # samples on which skipping is compared with computing before a run
_ROWS, _STORED = "rows", "stored"  # the hidden states; for each example a digit: is it there?


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the trainer must call: with each batch's examples before its forward, and before each checkpoint."""

    batch: tuple[Callable[[Sequence[Example], bool], None], ...] = ()
    checkpoint: tuple[Callable[[], None], ...] = ()


@contextmanager
def remembered(
    thawed: Loaded, layers: Sequence[nn.Module], data: Samples, settings: FreezeSettings, report: Report
) -> Iterator[Hooks]:
    """Within the block the trunk of the model's `layers` is computed once for each example of `data`.

    Where that is not possible, or would not be right, the hooks are none, and the report is told why.
    """
    lowest = next(number for number, layer in enumerate(layers) if any(w.requires_grad for w in layer.parameters()))
    with ExitStack() as stack:
        hooks = Hooks()
        if settings.trunk_cache and not (reason := _no_use(lowest, data, settings)):
            trunk = stack.enter_context(skippable(layers[:lowest]))
            trial = try_out(trunk, thawed, _first(data), settings)
            if not (reason := trial.reason):
                try:
                    rows = stack.enter_context(_rows(thawed, layers[lowest:], data, settings, trial))
                    report.note(_said(lowest, rows))
                    memory = Memory(trunk, rows, report)
                    stack.callback(memory.keep)
                    hooks = Hooks(batch=(memory.tell,), checkpoint=(memory.keep,))
                except StorageError as error:
                    reason = error.message
        if settings.trunk_cache and reason:
            report.note(f"no trunk cache, the frozen layers are computed in every epoch: {reason}")
        yield hooks


def _said(lowest: int, rows: "Rows") -> str:
    when = "from the first step on" if rows.complete else "from epoch 2 on"
    layers = "the lowest layer is" if lowest == 1 else f"the {lowest} lowest frozen layers are"
    return f"{when} {layers} read from disk: {cache.readable(rows.size)}"


def _first(data: Samples) -> list[Example]:
    return flat([data[number] for number in range(min(_TRIED, len(data)))])


def _no_use(lowest: int, data: Samples, settings: FreezeSettings) -> str:
    """Why the settings leave nothing to store, or nothing that stays right; "" when they do not."""
    epoch = steps_of(replace(settings, max_steps=0, epochs=1.0), len(data))
    if lowest == 0:
        return "no frozen layer is below the lowest one that learns"
    if steps_of(settings, len(data)) <= epoch:
        return "each sample is seen once"
    if settings.neftune:
        return "NEFTune's noise is another in every epoch"
    if max(world.current().size, settings.devices * settings.nodes) > 1:
        return "several processes train"
    return ""


class Rows:
    """The hidden states of examples in a file, [tokens, width], and which of them are there."""

    def __init__(self, home: Path, ends: numpy.ndarray, width: int, dtype: torch.dtype, packing: bool) -> None:
        """`home` holds the file, as long as it can become; `ends` are the examples' places, from 0, in tokens."""
        self._ends, self._width, self._dtype, self._packing = ends, width, dtype, packing
        self._file = (home / _ROWS).open("r+b", buffering=0)
        self._list = home / _STORED
        self._there = self._listed()
        self._is_new = False

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return int(self._ends[-1]) * self._width * self._dtype.itemsize

    @property
    def complete(self) -> bool:
        return bool(self._there.all())

    def has(self, examples: Sequence[Example]) -> bool:
        return all(self._there[example.number] for example in examples)

    def write(self, examples: Sequence[Example], hidden: Tensor) -> None:
        """Store the rows of `examples` from a batch's hidden states, [rows, tokens, width].

        Raises OSError when the disk does not take them, StorageError when their precision is not the file's.
        """
        if hidden.dtype != self._dtype:
            raise StorageError(f"the layers gave {self._dtype} first and {hidden.dtype} now")
        states = hidden.detach().cpu()
        for example, place in zip(examples, places_of(examples, self._packing), strict=True):
            left = _bytes(states[place])
            self._seek(example)
            while left:
                left = left[self._file.write(left) :]
            self._there[example.number] = self._is_new = True

    def read(self, examples: Sequence[Example], like: Tensor) -> Tensor:
        """The rows of `examples` as a batch's hidden states, shaped and placed as `like`; zeros between them.

        Raises StorageError when the file cannot be read.
        """
        states = torch.zeros(*like.shape[:-1], self._width, dtype=self._dtype, pin_memory=like.is_cuda)
        for example, place in zip(examples, places_of(examples, self._packing), strict=True):
            left = _bytes(states[place])
            self._seek(example)
            while left:
                count = self._file.readinto(left)
                if not count:
                    raise StorageError(f"{self._file.name} has been cut short", hint="go on with --resume")
                left = left[count:]
        return states.to(like.device, non_blocking=True)

    def keep(self) -> None:
        """See the rows to the disk, then list them: a crash never leaves an example listed that is not there."""
        if self._is_new:
            os.fsync(self._file.fileno())
            with writing(self._list) as file:
                digits = (self._there + ord("0")).astype(numpy.uint8).tobytes().decode("ascii")
                file.write(f"{self._inode}\n{digits}\n")
            self._is_new = False

    def close(self) -> None:
        self._file.close()

    @property
    def _inode(self) -> int:
        return os.fstat(self._file.fileno()).st_ino

    def _listed(self) -> numpy.ndarray:
        """Which examples are there; none when the list was made for another file."""
        there = numpy.zeros(len(self._ends) - 1, bool)
        if self._list.is_file():
            inode, digits = self._list.read_text("ascii").split()
            if (int(inode), len(digits)) == (self._inode, len(there)):
                there |= numpy.frombuffer(digits.encode("ascii"), numpy.uint8) == ord("1")
        return there

    def _seek(self, example: Example) -> None:
        self._file.seek(int(self._ends[example.number]) * self._width * self._dtype.itemsize)


def _bytes(states: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    memory: memoryview = states.reshape(-1).view(torch.uint8).numpy().data
    return memory


class Memory:
    """Says for each batch whether the trunk's rows are to be read or stored."""

    def __init__(self, trunk: Trunk, rows: Rows, report: Report) -> None:
        self._trunk, self._rows, self._report = trunk, rows, report
        self._is_full = False

    def keep(self) -> None:
        """List what is stored, so that a resumed run finds it."""
        try:
            self._rows.keep()
        except (OSError, StorageError) as error:
            self._stop(error)

    def tell(self, examples: Sequence[Example], training: bool) -> None:
        """To be called before each forward of a batch."""
        if not training or min(example.number for example in examples) < 0:
            # A validation's examples bear the numbers of another set; what only fills a batch up has none.
            self._trunk.next()
        elif self._rows.has(examples):
            self._trunk.next(give=partial(self._rows.read, examples))
        else:
            self._trunk.next(take=None if self._is_full else partial(self._store, examples))

    def _store(self, examples: Sequence[Example], hidden: Tensor) -> None:
        try:
            self._rows.write(examples, hidden)
        except (OSError, StorageError) as error:
            self._stop(error)

    def _stop(self, error: OSError | StorageError) -> None:
        """A full disk must not end a run that can do without."""
        said = storage_error(error) if isinstance(error, OSError) else error
        if not self._is_full:
            self._report.note(f"no more of the frozen layers' outputs is stored: {said.message}")
        self._is_full = True


@contextmanager
def _rows(
    loaded: Loaded, above: Sequence[nn.Module], data: Samples, settings: FreezeSettings, trial: Trial
) -> Iterator[Rows]:
    """The stored rows of this model and data; raises StorageError when there is no room for them."""
    examples = data.examples
    key = _key(loaded, above, data, settings, trial)
    size = examples.tokens * trial.width * trial.dtype.itemsize
    root, bound = folder("cache") / "trunk", int(settings.trunk_cache * 2**30)
    with cache.claimed(root, key, _ROWS, size, bound) as home:
        rows = Rows(home, examples.ends, trial.width, trial.dtype, settings.packing)
        try:
            yield rows
        finally:
            rows.close()


def _key(loaded: Loaded, above: Sequence[nn.Module], data: Samples, settings: FreezeSettings, trial: Trial) -> str:
    """A hash of all that the rows depend on: the weights themselves, so whatever lies merged in them counts."""
    examples = data.examples
    model = loaded.model
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    facts = {
        "model": [type(model).__name__, config],
        "layers above": len(above),
        "data": [data.starts if isinstance(data, Blocks) else "", settings.mix, settings.seed],
        "batch": [settings.batch, settings.accumulate],
        "computed": [settings.packing, precision_of(settings, loaded.device), loaded.device.type, str(trial.dtype)],
        "versions": [version(name) for name in ("medcli", "torch", "transformers")],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    digest.update(examples.ids.data)
    digest.update(examples.ends.data)
    learning = {id(weight) for layer in above for weight in layer.parameters()}
    for name, weight in chain(model.named_parameters(), model.named_buffers()):
        if id(weight) not in learning:
            digest.update(name.encode())
            digest.update(_bytes(weight.detach().cpu().contiguous()))
    return digest.hexdigest()[:32]
