"""The data of a run: sets found or built, mixed as asked for, and free of what exams and test splits ask."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import DatasetFolder, built_names, open_dataset
from medcli.core.errors import DataError, UsageError
from medcli.core.manifest import MANIFEST
from medcli.core.mixture import Share, chosen, shares_of, with_replay
from medcli.core.raw import is_pattern
from medcli.core.reading import Reading
from medcli.core.record import Record
from medcli.core.report import Report
from medcli.core.settings import Layers, environment, folder, project_table, resolve
from medcli.core.train_settings import TrainSettings
from medcli.steps import build_data
from medcli.steps.check_data import Checked, check_training


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A built set, and how much of it a run takes."""

    dataset: DatasetFolder
    share: Share

    @property
    def count(self) -> int:
        """The training records taken in an epoch, repeats included."""
        return self.share.count(self.dataset.count("train"))


def sources_of(settings: TrainSettings, reading: Reading, report: Report) -> list[Source]:
    """The sets of `--dataset` and `--replay`; files and folders that are no built set are built first.

    Raises UsageError for a mixture that makes no sense, DataError for a set of another kind or one that leaks.
    """
    shares = shares_of(settings.dataset, settings.replay)
    if not settings.dataset:
        raise UsageError("--dataset is missing", hint="`med data list` shows what is built")
    datasets = [_fitting(_opened(share.name, report), reading) for share in shares]
    shares = with_replay(shares, [dataset.count("train") for dataset in datasets])
    sources = [Source(dataset=dataset, share=share) for dataset, share in zip(datasets, shares, strict=True)]
    if not settings.allow_leak:
        _refuse_leaks(check_training(datasets, report))
    return sources


def training_records(sources: Sequence[Source], settings: TrainSettings) -> Iterator[Record]:
    """The training records of one epoch; with `mix = concatenate` each set is shuffled, for its turn comes whole."""
    for source in sources:
        taken = chosen(source.share, source.dataset.count("train"), settings.seed)
        if settings.mix == "concatenate":
            records = list(_taken(source.dataset, taken))
            random.Random(settings.seed).shuffle(records)
            yield from records
        else:
            yield from _taken(source.dataset, taken)


def validation_records(sources: Sequence[Source], settings: TrainSettings) -> tuple[Iterator[Record], int]:
    """The records to measure the loss on, of all sets in turn, and how many there are: at most `valid_limit`."""
    count = min(settings.valid_limit, sum(source.dataset.count("valid") for source in sources))
    return islice(chain.from_iterable(source.dataset.records("valid") for source in sources), count), count


def _taken(dataset: DatasetFolder, numbers: Iterator[int]) -> Iterator[Record]:
    """The records whose numbers are named, in order and as often."""
    wanted = next(numbers, None)
    for number, record in enumerate(dataset.records("train")):
        while wanted == number:
            yield record
            wanted = next(numbers, None)
        if wanted is None:
            return


def _opened(name: str, report: Report) -> DatasetFolder:
    """The built set of this name, or the one built from a file, folder or pattern, as med.toml says."""
    is_built = name in built_names() or (Path(name) / MANIFEST).is_file()
    is_raw = Path(name).exists() or is_pattern(Path(name))
    if is_built or not is_raw:
        return open_dataset(name)
    layers = Layers(environment=environment(), project=project_table())
    settings = resolve(BuildSettings, build_data.SECTION, layers).values
    planned = build_data.plan(name, settings)
    known = DatasetFolder(planned.path)
    if (planned.path / MANIFEST).is_file():
        inputs = {table["file"] for table in known.manifest["inputs"]}
        if inputs != {input_name for _, input_name in planned.inputs}:
            raise UsageError(
                f"{planned.path} is built from other files than {name}",
                hint=f"build it under a name of its own: med data build {name} --name NAME",
            )
    else:
        report.note(f"{name} is no built data set: building {folder('data').name}/{planned.path.name} from it")
    return build_data.build(name, settings, report=report)


def _fitting(dataset: DatasetFolder, reading: Reading) -> DatasetFolder:
    if dataset.kind not in reading.kinds:
        wanted = " or ".join(f"{kind}s" for kind in reading.kinds)
        raise DataError(
            f"the data set '{dataset.name}' holds {dataset.kind}s; this method learns from {wanted}",
            hint="`med data list` shows what each data set holds",
        )
    return dataset


def _refuse_leaks(leaks: Sequence[Checked]) -> None:
    for checked in leaks:
        first = checked.pairs[0]
        against = ",".join(dict.fromkeys(pair.held_out.partition(": ")[0] for pair in checked.pairs))
        raise DataError(
            f"{checked.train} holds {checked.leaked:,} of {checked.items:,} items that are held out to measure models: "
            f"{first.train} repeats {first.held_out} ('{first.asked[:40]}')",
            hint=f"see them: med data check {checked.train} --against {against}\n"
            f"leave them out: med data build … --without {against}; or train all the same with --allow-leak",
        )
