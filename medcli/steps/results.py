"""What every evaluation shares: which part of a data set is examined, and where what was found is kept."""

import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medcli import __version__
from medcli.core.atomic import sha256_of
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import DataError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Report
from medcli.core.run_folder import named
from medcli.core.settings import project_root

_LONGEST_NAME = 120  # file systems end at 255 bytes


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


def results_file(model: str, exam: str, kb: str = "") -> Path:
    """Where an exam's outcome is kept: in the run's folder, or in `eval/` when the model is no run.

    What rests on a knowledge base is another outcome, and does not take the place of the one without.
    """
    run, exam = named(model), f"{exam}+{kb}" if kb else exam
    if run.exists:
        return run.path / "eval" / f"{exam}.json"
    return project_root() / "eval" / f"{short_name(model)}-{exam}.json"


def short_name(model: str) -> str:
    """A model's name as a part of a file's."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-.")[-_LONGEST_NAME:]


def examined(dataset: DatasetFolder, split: str) -> dict[str, Any]:
    """What was examined, so that it can be found again and seen to be the same."""
    return {"name": dataset.name, "split": split, "sha256": sha256_of(dataset.file(split))}


def versions() -> dict[str, str]:
    """The versions of med, Python, and the packages that answers and scores depend on."""
    packages = ("torch", "transformers", "peft", "jieba", "sacrebleu")
    return {"med": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}
