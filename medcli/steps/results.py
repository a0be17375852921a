"""What every evaluation shares: which part of a data set is examined, and the file that keeps what was found."""

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from medcli import __version__
from medcli.core.atomic import sha256_of, writing
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import DataError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Report
from medcli.core.run_folder import named
from medcli.core.settings import project_root, setting

_LONGEST_NAME = 120  # file systems end at 255 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamSettings:
    """What every evaluation can be told."""

    dataset: str = setting(help="A built data set; `med data list` shows what there is.")
    split: Literal["train", "valid", "test"] | None = setting(
        None, help="The part of it to take; unless given, test, or valid when test is empty."
    )
    limit: int | None = setting(None, help="Take only so many conversations or pairs.", minimum=1)
    seed: int = setting(42, help="Makes drawing repeatable.", minimum=0)
    system: str | None = setting(None, help="A system message in place of the data set's own.")
    device: str = setting("auto", help="auto, cpu, cuda or cuda:N.")
    trust_remote_code: bool = setting(False, help="Run the Python files of the model's folder. Read them first.")


def check_fit(model: str, ref: ModelRef, dataset: DatasetFolder) -> None:
    """Raise DataError where a reward model is to answer, or a model that speaks to judge.

    Of a hub's model that is not here nobody knows yet which it is.
    """
    name = dataset.name
    if ref.is_reward and dataset.kind != "preference":
        made = f"\nor make pairs of it: med data make preference {name} --model RUN --reward {model}"
        raise DataError(
            f"{model} is a reward model, which judges pairs of answers, and '{name}' holds {dataset.kind}s",
            hint=f"med eval {model} --dataset PAIRS    (`med data list` shows which hold preferences)"
            + (made if dataset.kind == "conversation" else ""),
        )
    if speaks(ref) and dataset.kind == "preference":
        raise DataError(
            f"'{name}' holds pairs of answers, which a reward model judges, and {model} is a model that speaks",
            hint=f"med train rm --model {model} --dataset {name} --run judge\nthen: med eval judge --dataset {name}",
        )


def speaks(ref: ModelRef) -> bool:
    """Whether the model is here, and no reward model."""
    return (bool(ref.adapters) or ref.is_tiny or Path(ref.base).is_dir()) and not ref.is_reward


def part_of(dataset: DatasetFolder, split: str | None) -> str:
    """The split asked for; unless one was, test, or valid where test is empty."""
    return split or ("test" if dataset.count("test") else "valid")


def note_part(dataset: DatasetFolder, split: str, asked: str | None, report: Report) -> None:
    """Say so when another part is taken than a reader would think."""
    if split != (asked or "test"):
        report.note(f"the data set '{dataset.name}' has no test part: valid is taken instead")


def results_file(model: str, dataset: str, split: str) -> Path:
    """Where an evaluation is kept: in the run's folder, or in `eval/` when the model is no run."""
    run = named(model)
    if run.exists:
        return run.path / "eval" / f"{dataset}-{split}.json"
    name = re.sub(r"[^\w.-]+", "-", model).strip("-.")[-_LONGEST_NAME:]
    return project_root() / "eval" / f"{name}-{dataset}-{split}.json"


def examined(dataset: DatasetFolder, split: str) -> dict[str, Any]:
    """What was examined, so that it can be found again and seen to be the same."""
    return {"name": dataset.name, "split": split, "sha256": sha256_of(dataset.file(split))}


def write(file: Path, table: Mapping[str, Any]) -> None:
    """Write the results whole; the same table gives the same bytes."""
    with writing(file) as out:
        json.dump(table, out, ensure_ascii=False, indent=1)
        out.write("\n")


def versions(*packages: str) -> dict[str, str]:
    """The versions of med, Python, torch, transformers, peft and `packages`."""
    found = {name: version(name) for name in ("torch", "transformers", "peft", *packages)}
    return {"med": __version__, "python": platform.python_version(), **found}
