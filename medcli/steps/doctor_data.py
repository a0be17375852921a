"""Are the built data sets and knowledge bases whole, and as their manifests say?"""

from collections.abc import Iterator
from pathlib import Path

from medcli.core.atomic import sha256_of
from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.errors import DataError
from medcli.core.finding import Finding
from medcli.core.knowledge_base import INDEX, KnowledgeBase, PassageFile, bases_folder
from medcli.core.leftovers import leftovers_in, moved_aside_in
from medcli.core.manifest import MANIFEST
from medcli.core.settings import folder

_READ = 64 * 2**20  # bytes of a file that are hashed; of a larger one only its end is looked at


def dataset_findings() -> Iterator[Finding]:
    """What is wrong with the data sets of this project; one finding when nothing is."""
    places = [path for path in _folders(folder("data")) if path != bases_folder()]
    built = [path for path in places if (path / MANIFEST).is_file()]
    faults = [finding for path in built for finding in _of_dataset(DatasetFolder(path))]
    if not faults:
        yield Finding(check="data sets", state="ok", message=f"built and unchanged: {len(built)}")
    yield from faults
    for path in places:
        if path not in built and any((path / f"{split}.jsonl").is_file() for split in SPLITS):
            yield Finding(
                check="data sets",
                state="warning",
                message=f"{path} has no manifest.toml: it is no finished data set",
                hint=f"build it: med data build {path.name} --raw DIR",
            )
    yield from _moved_and_left(folder("data"), "data sets")


def base_findings() -> Iterator[Finding]:
    """What is wrong with the knowledge bases of this project; one finding when nothing is."""
    built = [path for path in _folders(bases_folder()) if (path / MANIFEST).is_file()]
    faults = [finding for path in built for finding in _of_base(KnowledgeBase(path))]
    if not faults:
        yield Finding(check="knowledge bases", state="ok", message=f"built and whole: {len(built)}")
    yield from faults
    yield from _moved_and_left(bases_folder(), "knowledge bases")


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _of_dataset(dataset: DatasetFolder) -> Iterator[Finding]:
    again = f"build it again: med data build {dataset.name} --raw DIR"
    try:
        files, _ = dict(dataset.manifest["files"]), dict(dataset.manifest["counts"])
    except DataError as error:
        yield Finding(check="data sets", state="error", message=error.message, hint=error.hint)
        return
    except (KeyError, TypeError, ValueError):
        message = f"{dataset.path / MANIFEST} does not tell the files of the data set"
        yield Finding(check="data sets", state="error", message=message, hint=again)
        return
    for split in SPLITS:
        path = dataset.file(split)
        if not path.is_file():
            if split in files:
                yield Finding(check="data sets", state="error", message=f"{path} is missing", hint=again)
        elif _has_changed(path, str(files.get(split, ""))):
            message = f"{path} is not as it was built"
            yield Finding(check="data sets", state="error", message=message, hint=again)


def _has_changed(path: Path, sha256: str) -> bool:
    """Whether a file has another hash; of a large one only whether its last line is cut."""
    size = path.stat().st_size
    if size <= _READ:
        return sha256_of(path) != sha256
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _of_base(base: KnowledgeBase) -> Iterator[Finding]:
    try:
        fits = (base.path / INDEX).is_dir() and (not base.count or len(PassageFile(base)) == base.count)
    except DataError as error:
        yield Finding(check="knowledge bases", state="error", message=error.message, hint=error.hint)
        return
    except (KeyError, TypeError, ValueError):  # of a manifest that is another file's
        fits = False
    if not fits:
        yield Finding(
            check="knowledge bases",
            state="error",
            message=f"{base.path} is not as it was built",
            hint=f"build it again: med kb build SOURCE --name {base.name}",
        )


def _moved_and_left(place: Path, check: str) -> Iterator[Finding]:
    """What builds that were killed have left in a folder."""
    for aside, home in moved_aside_in(place):
        yield Finding(
            check=check,
            state="error",
            message=f"{home} was moved aside by a build that was killed",
            hint=f"put it back: mv {aside} {home}",
        )
    if left := list(leftovers_in(place)):
        yield Finding(
            check=check,
            state="warning",
            message=f"a build that was killed has left {left[0]}",
            hint="remove it: med clean leftovers",
        )
