"""The card of an exported model, from what is on record: what it is made of, how it did, what its licences allow."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcli import __version__
from medcli.core import exam_file, licences, run_folder
from medcli.core.atomic import writing
from medcli.core.dataset_folder import DatasetFolder, open_dataset
from medcli.core.errors import MedError
from medcli.core.model_ref import TINY, ModelRef
from medcli.core.resources import templates
from medcli.core.run_folder import RunFolder
from medcli.core.score import Score
from medcli.core.speaker import DISCLAIMER
from medcli.core.units import in_percent
from medcli.steps.data_stats import commercial_use, known_as
from medcli.steps.results import results_file, short_name

FILE = "README.md"
TEMPLATE = "model_card.md.jinja"
ENGLISH_DISCLAIMER = (
    "What follows is said by a model, for study and research only. It cannot take the place of a doctor's diagnosis; "
    "if you are unwell, see a doctor."
)
DISCLAIMERS = f"{DISCLAIMER}\n{ENGLISH_DISCLAIMER}"
OTHER = "other"  # Hugging Face's word for a licence that is none of its list
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SNAPSHOT = re.compile(r"models--(.+?)--(.+?)/snapshots/")
_MOST_REASONS = 5
# What a run's result says, in words.
_FIGURES = {
    "loss": "training loss, last", "eval_loss": "validation loss", "eval_accuracy": "validation pairs right",
    "eval_reward": "held-out reward", "eval_reward_before": "held-out reward before", "kl": "KL to the reference (nat)",
    "steps": "steps", "tokens": "tokens", "seconds": "seconds",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model that everything began with; `hub` is its id there, or ""."""

    name: str
    hub: str
    licence: str
    commercial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A data set that a stage learnt from. `records` were taken; the rest is its manifest's, empty when it is gone."""

    name: str
    records: int
    title: str
    source: str
    hub: str
    licence: str
    commercial: str
    counts: Mapping[str, int]
    refused: str
    masked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A run that the model went through: its data, its settings that are not the defaults, and what came of it."""

    name: str
    method: str
    data: Sequence[Data]
    settings: Sequence[tuple[str, str, str]]
    figures: Sequence[tuple[str, str]]
    template: str
    versions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All that the card says."""

    name: str
    format: str
    judges: bool
    base: Base
    stages: Sequence[Stage]
    scores: Sequence[tuple[str, str, str, str, str]]
    licence: str
    warnings: tuple[str, ...]

    @property
    def tags(self) -> list[str]:
        """What hubs find the model by."""
        own = ["reward-model"] if self.judges else []
        return list(dict.fromkeys(["medical", "chinese", "med", *(stage.method for stage in self.stages), *own]))

    @property
    def hubs(self) -> list[str]:
        """The hub ids of all data sets, each once."""
        return list(dict.fromkeys(data.hub for stage in self.stages for data in stage.data if data.hub))


def card_of(model: str, ref: ModelRef, kind: str) -> Card:
    """The card of `model`, which is exported as `kind`; nothing of where things lie on this machine is in it."""
    runs, base = _history(model, ref)
    stages = [_stage(run) for run in runs]
    warnings = tuple(_warnings(base, [data for stage in stages for data in stage.data]))
    return Card(
        name=Path(model).resolve().name,
        format=kind,
        judges=ref.is_reward,
        base=base,
        stages=stages,
        scores=list(_scores(model)),
        licence=OTHER if warnings else base.licence.lower(),
        warnings=warnings,
    )


def write(card: Card, path: Path, folder: str) -> None:
    """Write the card to `path`, for a folder that will be called `folder`; raises StorageError."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates()), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"cell": _cell, "quoted": lambda text: json.dumps(text, ensure_ascii=False)}
    text = environment.get_template(TEMPLATE).render(
        card=card,
        folder=folder,
        file=short_name(card.name),
        med=__version__,
        disclaimer=DISCLAIMER,
        english=ENGLISH_DISCLAIMER,
    )
    with writing(path) as file:
        file.write(text.rstrip() + "\n")


def _history(model: str, ref: ModelRef) -> tuple[list[RunFolder], Base]:
    """The runs that `model` went through, the oldest first, and the model before them all."""
    run = run_folder.named(model)
    if run.exists:
        return _through(run)
    before, base = _before(ref.base)
    return [*before, *_of_adapters(ref.adapters)], base


def _through(run: RunFolder) -> tuple[list[RunFolder], Base]:
    parts = run.table()["model"]
    before, base = _before(parts["base"])
    return [*before, *_of_adapters(map(Path, parts.get("adapters", []))), run], base


def _before(base: str) -> tuple[list[RunFolder], Base]:
    """What a base model is made of: a run's model, a merged one, or one that began here."""
    folder = Path(base)
    if (folder.parent / "run.toml").is_file():
        return _through(RunFolder(folder.parent))
    if (folder / "merge.json").is_file():
        parts = json.loads((folder / "merge.json").read_text("utf-8"))["merged_from"]
        before, first = _before(parts["base"])
        return [*before, *_of_adapters(map(Path, parts["adapters"]))], first
    return [], _base(base)


def _of_adapters(adapters: Iterable[Path]) -> list[RunFolder]:
    return [run for path in adapters if (run := RunFolder(path.parent)).exists]


def _base(base: str) -> Base:
    folder = _in_cache(base)
    if ModelRef(base=base).is_tiny:
        return Base(name=TINY, hub="", licence="Apache-2.0", commercial="yes")
    snapshot = _SNAPSHOT.search(base)
    hub = f"{snapshot[1]}/{snapshot[2]}" if snapshot else base if not Path(base).exists() else ""
    licence = licences.licence_of(folder) if folder else "unknown"
    return Base(
        name=hub or Path(base).resolve().name,
        hub=hub if _HUB_ID.fullmatch(hub) else "",
        licence=licence,
        commercial=licences.commercial_use(licence),
    )


def _in_cache(base: str) -> Path | None:
    """The folder of a base model, when it is here."""
    if Path(base).is_dir():
        return Path(base)
    if not _HUB_ID.fullmatch(base):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, FILE)
    return Path(found).parent if isinstance(found, str) else None


def _stage(run: RunFolder) -> Stage:
    table = run.table()
    result = table.get("result", {})
    own = [name for name, origin in table["origins"].items() if origin != "default"]
    return Stage(
        name=run.name,
        method=table["run"]["method"],
        data=[_data(name, row) for name, row in table["data"].items()],
        settings=[(name, _public(table["settings"].get(name, "")), _public(table["origins"][name])) for name in own],
        figures=[(words, _number(result[key])) for key, words in _FIGURES.items() if key in result],
        template=table["model"]["template"],
        versions=", ".join(f"{name} {number}" for name, number in table["versions"].items()),
    )


def _data(name: str, row: Mapping[str, Any]) -> Data:
    try:
        source = open_dataset(row["path"])
    except MedError:
        return Data(
            name=name, records=row["records"], title="", source="its folder is gone", hub="", licence="unknown",
            commercial="unknown", counts={}, refused="", masked="",
        )  # fmt: skip
    manifest, known = source.manifest, known_as(source)
    refused = sorted(manifest["refused"].items(), key=lambda pair: -pair[1])[:_MOST_REASONS]
    changed = "" if source.sha256("train") == row["sha256"] else " (built anew since it was trained on)"
    return Data(
        name=f"{name}{changed}",
        records=row["records"],
        title=known.title if known else f"{manifest['kind']}s of the trainer's own",
        source=known.url if known else ", ".join(Path(item["file"]).name for item in manifest["inputs"]),
        hub=known.hub if known else "",
        licence=manifest["licence"] or "unknown",
        commercial=_use(source),
        counts=manifest["counts"],
        refused=", ".join(f"{reason} {count:,}" for reason, count in refused),
        masked=_masking(manifest),
    )


def _use(source: DatasetFolder) -> str:
    """What is known of commercial use; of a set of one's own, what its licence's name says."""
    return commercial_use(source) if known_as(source) else licences.commercial_use(source.manifest["licence"])


def _masking(manifest: Mapping[str, Any]) -> str:
    """How identifiers of persons were treated, and how many were found."""
    found = {what: count for what, count in manifest["changed"].items() if what.startswith(("masked", "found"))}
    counts = ", ".join(f"{what} {count:,}" for what, count in found.items())
    return f"{manifest['settings']['phi']}: {counts or 'none found'}"


def _warnings(base: Base, data: Sequence[Data]) -> Iterator[str]:
    """What of the parts forbids commercial use, or does not say."""
    parts: list[tuple[str, Base | Data]] = [
        (f"the base model {base.name}", base),
        *((f"the data set {one.name}", one) for one in data),
    ]
    for what, part in dict(parts).items():
        if part.commercial == "no":
            yield f"{what} is under '{part.licence}', which forbids commercial use"
        elif part.commercial == "unknown":
            yield f"{what} is under '{part.licence}': whether commercial use is allowed is not known, ask its owners"


def _scores(model: str) -> Iterator[tuple[str, str, str, str, str]]:
    """(exam, metric, value, 95 % interval, n) of every exam that `model` has sat, leaks said."""
    stem = "*" if run_folder.named(model).exists else f"{short_name(model)}-*"
    for path in sorted(results_file(model, "exam").parent.glob(f"{stem}.json")):
        found = exam_file.read(path)
        leaked = sum("leaked" in one.detail for one in found.marked)
        name = f"{found.exam} ({leaked:,} of {len(found.marked):,} questions were trained on)" if leaked else found.exam
        for score in found.scores:
            value, low, high = _figures(found.kind, score)
            yield name, score.metric, value, f"{low} – {high}", f"{score.count:,}"


def _figures(kind: str, score: Score) -> list[str]:
    factor, unit = (100, " %") if in_percent(kind, score) else (1, "")
    return [f"{factor * number:.2f}{unit}" for number in (score.value, score.low, score.high)]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _public(value: Any) -> str:
    """A setting as strangers may read it: of a path only its last part."""
    if isinstance(value, list):
        return ", ".join(map(_public, value))
    text = str(value)
    return Path(text).name if text.startswith(("/", "~", "..")) else text


def _cell(value: Any) -> str:
    """A value in a table of Markdown."""
    return " ".join(str(value).split()).replace("|", "\\|")
