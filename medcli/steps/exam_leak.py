"""Was a model trained on what an exam asks? The training sets of all runs that it comes from are compared.

What a run learnt from stands in its run.toml, by the hash of the training file. A set is found again by that hash,
wherever it lies now. One that was deleted, or built again since, is not compared: what stands there now need not be
what was learnt from, and a mark must be something that is known. Of a set the whole training split counts, as it does
when training is refused, even where a run took a part of it. Reward models do not count: a policy hears their verdicts,
and reads none of their texts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from medcli.core.atomic import sha256_of
from medcli.core.dataset_folder import HELD_OUT, DatasetFolder, built_names, open_dataset
from medcli.core.errors import DataError
from medcli.core.exam import Item
from medcli.core.fingerprint import LEAK, fingerprint, question_of
from medcli.core.manifest import MANIFEST
from medcli.core.model_ref import ADAPTER_CONFIG, TENSORS_CONFIG, TINY
from medcli.core.record import Question
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.settings import folder, project_root
from medcli.steps.check_data import Checked, compare, remember, remembered
from medcli.steps.held_out import HeldOutSet

_OWN_QUESTIONS = "exam"  # what an exam without a data set is called among held-out sets
_NAMED = 3  # leaked questions in a refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A set that a run learnt from: what it was called, where it lay, and the hash of its training file."""

    run: str
    name: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """All sets that a model learnt from in `med`, the last run's first.

    `lost` says which runs no longer tell, `outside` which parts of the model `med` has not trained.
    """

    sets: tuple[Learnt, ...]
    lost: tuple[str, ...]
    outside: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntSet:
    """A training set that was looked at: `found` of the exam's questions stand in it.

    `own` is set where the exam is the held-out part of this very set, which the build has cleared of such questions.
    """

    name: str
    sha256: str
    found: int
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """What of an exam a model was trained on.

    `items` tells of leaked items, by their id, which training record asks the same, the most alike first:
    "huatuo: huatuo-7, 0.93". `unknown` says what could not be looked at, and why. `exact` is not empty where the very
    file that is examined was trained on, and says so: then every item was, and none is named. `asked` counts the
    exam's items; `dataset` is the data set they come from, "" for an exam that brings its own.
    """

    asked: int
    dataset: str
    items: Mapping[str, str] = field(default_factory=dict)
    sets: tuple[LearntSet, ...] = ()
    unknown: tuple[str, ...] = ()
    exact: str = ""

    def as_table(self) -> dict[str, Any]:
        """The finding as JSON, for the file that keeps the exam's outcome."""
        return {
            "leaked": self.asked if self.exact else len(self.items),
            "exact": self.exact,
            "items": dict(self.items),
            "sets": [asdict(one) for one in self.sets],
            "unknown": list(self.unknown),
        }


def leaks_of(model: str, items: Sequence[Item], dataset: DatasetFolder | None, split: str, report: Report) -> Leaks:
    """Which `items` the runs behind `model` were trained on; `dataset` and `split` say where the items are from.

    The held-out split of a set that was trained on is not compared with that set's own training split: the build has
    cleared one of the other. Outcomes are remembered by hashes, so a set that is gone by now still counts where it was
    compared before. Raises DataError, UsageError or StorageError for files that cannot be read or written.
    """
    lineage, exam = lineage_of(model), _exam(items, dataset, split)
    clean = Leaks(asked=len(items), dataset=dataset.name if dataset else "")
    if same := next((one for one in lineage.sets if one.sha256 == exam.file), None):
        exact = f"{same.run} was trained on the very file that is examined, {split} of '{clean.dataset}'"
        return replace(clean, exact=exact, sets=(LearntSet(name=same.name, sha256=same.sha256, found=len(items)),))
    if not any(item.asks for item in items):
        return replace(clean, unknown=("the items of this exam do not say what they ask",))
    outcomes = [(one, _checked(one, exam, report)) for one in lineage.sets]
    lost = (*lineage.lost, *(_why_missing(one) for one, checked in outcomes if checked is None))
    for reason in lost:
        report.note(f"whether the exam leaks cannot be told in full: {reason}")
    sets = (
        LearntSet(name=one.name, sha256=one.sha256, found=checked.leaked, own=one.sha256 == exam.own)
        for one, checked in outcomes
        if checked
    )
    return replace(
        clean,
        items=_named([checked for _, checked in outcomes if checked]),
        sets=tuple(sets),
        unknown=(*lost, *(f"{part}: what it was trained on is not known to med" for part in lineage.outside)),
    )


def refuse(leaks: Leaks, exam: str, model: str) -> None:
    """Raise DataError when items leak. A file that was trained on as a whole is examined on purpose, and passes."""
    if not leaks.items:
        return
    first = "; ".join(f"{id} ↔ {where}" for id, where in islice(leaks.items.items(), _NAMED))
    more = "; …" if len(leaks.items) > _NAMED else ""
    if leaks.dataset:
        mend = f"leave them out and train again: med data build … --without {leaks.dataset}"
    else:
        mend = "take these records out of the raw files, build the data again, and train again"
    raise DataError(
        f"{model} was trained on {len(leaks.items):,} of the {leaks.asked:,} questions of {exam}: {first}{more}",
        hint=f"{mend}\nor examine all the same with --allow-leak, which marks them",
    )


def _named(outcomes: Sequence[Checked]) -> dict[str, str]:
    """The leaked items by their ids, and of each the training record that is most like it."""
    pairs = [(checked, pair) for checked in outcomes for pair in checked.pairs]
    named: dict[str, str] = {}
    for checked, pair in sorted(pairs, key=lambda found: -found[1].similarity):
        id = pair.held_out.removeprefix(f"{checked.against[0]}: ")
        named.setdefault(id, f"{checked.train}: {pair.train}, {pair.similarity:.2f}")
    return named


def lineage_of(model: str) -> Lineage:
    """What the runs behind `model` learnt from: those it was stacked on, went on from, or was merged from, too."""
    waiting, parts, runs = [model], set(), dict[Path, RunFolder]()
    lost, outside = [], []
    while waiting:
        part = waiting.pop(0)
        place = _place(part)
        if str(place or part) in parts:
            continue
        parts.add(str(place or part))
        if place is None and Path(part).is_absolute():
            lost.append(f"{part} is no longer there, and with it what it was trained on")
        elif place and (run := _run_around(place)):
            if run.path not in runs:
                runs[run.path] = run
                waiting += _beneath(run)
        elif place and (origin := _made_from(place)):
            waiting += origin
        else:
            outside.append(part)
            waiting += _adapted(place) if place else []
    sets: dict[str, Learnt] = {}
    for run in runs.values():
        for one in _learnt(run):
            sets.setdefault(one.sha256, one)
    silent = [f"{run.settings_file} does not say what was trained on" for run in runs.values() if not _learnt(run)]
    return Lineage(sets=tuple(sets.values()), lost=(*silent, *lost), outside=tuple(outside))


def _place(part: str) -> Path | None:
    """The folder that a model's name, or a part of one in a run.toml or merge.json, stands for."""
    if part == TINY:
        return None
    places = (Path(part).expanduser(), folder("runs") / part, project_root() / part)
    return next((place.resolve() for place in places if place.is_dir()), None)


def _run_around(place: Path) -> RunFolder | None:
    """The run that a folder is, or lies in: its adapter, model, checkpoint, or what was merged into it."""
    return next((run for path in (place, *place.parents) if (run := RunFolder(path)).exists), None)


def _beneath(run: RunFolder) -> list[str]:
    """What a run was trained on top of. An adapter that was gone on with is no part of the new model's base."""
    table = run.table()
    model = table.get("model", {})
    parts = [*reversed(model.get("adapters", [])), *([model["base"]] if "base" in model else [])]
    settings = table.get("settings", {})
    if settings.get("continue"):
        sibling = run.path.parent / settings["model"]  # the run may be one of another project
        parts.insert(0, str(sibling) if sibling.is_dir() else settings["model"])
    return parts


def _learnt(run: RunFolder) -> list[Learnt]:
    return [
        Learnt(run=run.name, name=name, path=row.get("path", ""), sha256=row["sha256"])
        for name, row in run.table().get("data", {}).items()
    ]


def _made_from(place: Path) -> list[str]:
    """What `med merge` or `med data vocab --extend` says that it made this folder from."""
    if merged := _json(place / "merge.json").get("merged_from"):
        return [*reversed(merged["adapters"]), merged["base"]]
    extended = _json(place / "vocabulary.json").get("extends")
    return [extended] if extended else []


def _adapted(place: Path) -> list[str]:
    """The model under an adapter that was not trained here, or was moved away from its run."""
    bases = [_json(place / config).get("base_model_name_or_path") for config in (ADAPTER_CONFIG, TENSORS_CONFIG)]
    return [base for base in bases if base]


def _json(file: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exam:
    """An exam's questions, with their hash. `file` is the hash of the file they come from.

    `built` is their data set where they are its held-out part, still as it was built; `own` is then the hash of its
    training file.
    """

    questions: HeldOutSet
    file: str = ""
    built: DatasetFolder | None = None
    own: str = ""


def _exam(items: Sequence[Item], dataset: DatasetFolder | None, split: str) -> _Exam:
    asked = [Question(id=item.id, stem=item.asks[0], choices=item.asks[1:], answer="", subject="", source="")
             for item in items if item.asks]  # fmt: skip
    digest = sha256(json.dumps([(item.id, item.asks) for item in items]).encode()).hexdigest()
    name = dataset.name if dataset else _OWN_QUESTIONS
    questions = HeldOutSet(name=name, hashes=(digest,), records=lambda: iter(asked))
    exam = _Exam(questions=questions)
    if dataset is None:
        return exam
    exam = replace(exam, file=sha256_of(dataset.file(split)))
    if split not in HELD_OUT or exam.file != dataset.sha256(split):
        return exam
    return replace(exam, built=dataset, own=dataset.sha256("train"))


def _checked(learnt: Learnt, exam: _Exam, report: Report) -> Checked | None:
    """The leaks of a training set, remembered or found now; None when the set is not there any more."""
    if learnt.sha256 == exam.own:  # cleared of the exam's questions when it was built
        return Checked(train=learnt.name, against=(exam.questions.name,), records=0, items=0, leaked=0, pairs=())
    parts = [learnt.sha256, *exam.questions.hashes, exam.own, str(LEAK)]
    if checked := remembered(learnt.name, parts):
        return checked
    source = _as_it_was(learnt)
    if source is None:
        return None
    checked = compare(source, [exam.questions], report)
    if exam.built and checked.pairs:
        checked = _without_siblings(checked, source, exam.built, report)
    return remember(replace(checked, train=learnt.name), parts)


def _without_siblings(checked: Checked, source: DatasetFolder, exam: DatasetFolder, report: Report) -> Checked:
    """The leaks without those whose question stands, word for word, in the training split of the exam's own set too.

    Its build has let them stand beside the question that they are like: a grammar made both, alike on purpose. They
    come back in whatever is made from that set, such as preferences.
    """
    report.stage(f"looking for these questions in {exam.name}")
    wanted = {pair.train for pair in checked.pairs}
    asked = [(one.id, fingerprint(question_of(one))) for one in source.records("train") if one.id in wanted]
    sought = {question for _, question in asked}
    siblings = sought.intersection(fingerprint(question_of(one)) for one in exam.records("train"))
    leaking = {id for id, question in asked if question not in siblings}
    pairs = tuple(pair for pair in checked.pairs if pair.train in leaking)
    return replace(checked, pairs=pairs, leaked=len({pair.held_out for pair in pairs}))


def _as_it_was(learnt: Learnt) -> DatasetFolder | None:
    """The data set whose training file a run learnt from: where it lay, or any of this project with that hash."""
    there = DatasetFolder(Path(learnt.path))
    known = [there] if (there.path / MANIFEST).is_file() else []
    for dataset in (*known, *map(open_dataset, built_names())):
        if dataset.sha256("train") == learnt.sha256 and dataset.file("train").is_file():
            return dataset
    return None


def _why_missing(learnt: Learnt) -> str:
    built_again = (Path(learnt.path) / MANIFEST).is_file() or learnt.name in built_names()
    why = "was built again or changed since" if built_again else "is no longer there"
    return f"the data set '{learnt.name}', which {learnt.run} was trained on, {why}"
