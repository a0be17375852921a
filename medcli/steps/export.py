"""Make of a run or a model one folder that other programs load: safetensors, GGUF, Ollama, or few bits."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from medcli.core import gguf, model_ref
from medcli.core.atomic import folder_aside, remove_leftovers, sha256_of
from medcli.core.errors import ModelError, StorageError, UsageError
from medcli.core.model_ref import ModelRef
from medcli.core.prompts import QUESTIONS
from medcli.core.report import Report
from medcli.core.settings import setting
from medcli.steps import merge as merging
from medcli.steps import model_card, modelfile
from medcli.steps import push as pushing
from medcli.steps.results import short_name

Format = Literal["safetensors", "gguf", "ollama", "bnb-4bit", "bnb-8bit"]
SUMS = "SHA256SUMS"
_WHOLE = "whole"  # in the unfinished folder: the model as plain safetensors
_PIECE = 16 << 20  # bytes copied at once
_SPARE = 64 << 20  # bytes that stay free
_LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
# What is written, in weights as they are stored.
_SHARE = {"safetensors": 1.0, "gguf": 1.0, "ollama": 1.0, "bnb-4bit": 0.6, "bnb-8bit": 0.8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is written, where to, and whether it is sent to a hub."""

    output: Path = setting(help="The new folder. One that exists is never overwritten.")
    format: Format = setting("safetensors", help="What the folder is for.")
    converter: str = setting("", help="The file convert_hf_to_gguf.py of llama.cpp, when it is not on PATH.")
    outtype: gguf.Outtype = setting("auto", help="Precision of a GGUF file; auto is as the weights are stored.")
    system: str = setting("", help="Of ollama: what the model is told when a user tells it nothing.")
    temperature: float = setting(0.7, help="Of ollama: how freely the next word is chosen.", minimum=0)
    device: str = setting("auto", help="auto, cpu, cuda, cuda:1, …")
    trust_remote_code: bool = setting(False, help="Run the Python files of the model's folder. Read them first.")
    push: str = setting("", help="Upload the folder to the hub as OWNER/NAME, private unless --public.")
    public: bool = setting(False, help="Let everybody see what is pushed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The finished folder. `warnings` are what its card says of licences; `pushed` is its page on a hub, or ""."""

    path: Path
    format: Format
    files: tuple[str, ...]
    bytes: int
    licence: str
    warnings: tuple[str, ...]
    pushed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is to be done. `base` is the folder below all adapters, `trusted` whether its code may be run.

    `converter` is given where a GGUF file is written; the Modelfile's text is "" where none is.
    """

    model: str
    ref: ModelRef
    settings: Settings
    base: Path
    trusted: bool
    name: str
    converter: Path | None
    card: model_card.Card
    modelfile: str

    @property
    def keeps_whole(self) -> bool:
        """Whether the whole model in safetensors is what is written, and not only read on the way."""
        return not self.converter and self.settings.format in ("safetensors", "ollama")

    @property
    def bytes_to_write(self) -> int:
        """About how much room is needed: what stays, and a merged model on the way."""
        size = sum(path.stat().st_size for path in self.base.glob("*.safetensors"))
        on_the_way = size if self.ref.adapters and not self.keeps_whole else 0
        return round(size * _SHARE[self.settings.format]) + on_the_way


def check(model: str, settings: Settings) -> ModelRef:
    """What `model` names, once all that can be refused before any work is refused.

    Raises UsageError, ModelError, and ServiceError for a hub that does not know who would push.
    """
    _check_free(settings)
    if settings.system and settings.format != "ollama":
        raise UsageError("--system is kept in a Modelfile only", hint="add --format ollama, or leave it out")
    if settings.public and not settings.push:
        raise UsageError("--public says how a model is pushed", hint="add --push OWNER/NAME, or leave it out")
    ref = model_ref.resolve(model)
    if ref.is_reward and settings.format != "safetensors":
        raise UsageError(
            f"{model} is a reward model, which judges and does not speak: {settings.format} is for models that speak",
            hint="--format safetensors",
        )
    if ref.adapters and not ref.is_reward and not merging.can_merge(ref):
        raise _no_folder(model, ref)
    if _converter(settings) is None and settings.format == "gguf":
        raise gguf.missing_converter()
    if settings.push:
        pushing.check_name(settings.push)
        pushing.check_login(settings.push)
    return ref


def export(model: str, settings: Settings, report: Report) -> Exported:
    """Write the folder, which appears only when it is whole; then push it when asked to.

    Raises UsageError, ModelError, StorageError, DeviceError or ServiceError. What was not pushed stays as a folder.
    """
    ref, target = check(model, settings), settings.output
    work = _planned(model, ref, settings, report)
    check_room(target, work.bytes_to_write)
    remove_leftovers(target)
    with folder_aside(target) as aside:
        with _whole(work, aside, report) as whole:
            _write(work, whole, aside, report)
        model_card.write(work.card, aside / model_card.FILE, target.name)
        _sum_up(aside, report)
        files = tuple(sorted(path.name for path in aside.iterdir()))
        _check_free(settings)  # another process may have been quicker
    page = pushing.push(target, settings.push, public=settings.public, report=report) if settings.push else ""
    return Exported(
        path=target,
        format=settings.format,
        files=files,
        bytes=sum((target / name).stat().st_size for name in files),
        licence=work.card.licence,
        warnings=work.card.warnings,
        pushed=page,
    )


def check_room(folder: Path, needed: int) -> None:
    """Raise StorageError when fewer than `needed` bytes are free where `folder` is to be."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if needed + _SPARE > free:
        raise StorageError(
            f"{place}: about {needed / 2**30:.1f} GiB are to be written, and {free / 2**30:.1f} GiB are free",
            hint="free some room, or choose another disk with --output",
        )


def _check_free(settings: Settings) -> None:
    if settings.output.exists():
        raise UsageError(f"{settings.output} exists", hint="remove it, or choose another folder with --output")


def _planned(model: str, ref: ModelRef, settings: Settings, report: Report) -> _Work:
    """All that can go wrong with records and templates does so here, before the long work."""
    from medcli.engine import remote_code
    from medcli.engine.export_source import folder_of

    ref = remote_code.consent(ref) if settings.trust_remote_code else ref
    base, trusted = folder_of(ref, report)
    name, converter = short_name(Path(model).resolve().name), _converter(settings)
    text = ""
    if settings.format == "ollama":
        weights = f"./{name}.gguf" if converter else "."
        licence = "\n\n".join(
            path.read_text("utf-8", "replace") for path in sorted(base.iterdir()) if _is_licence(path)
        )
        text = modelfile.text_of(
            ref, base, weights, report, system=settings.system, temperature=settings.temperature, licence=licence
        )
    return _Work(
        model=model, ref=ref, settings=settings, base=base, trusted=trusted, name=name, converter=converter,
        card=model_card.card_of(model, ref, settings.format), modelfile=text,
    )  # fmt: skip


@contextmanager
def _whole(work: _Work, aside: Path, report: Report) -> Iterator[Path]:
    """A folder in `aside` with the whole model in safetensors, for as long as the block lasts.

    Adapters are merged; a model that is whole already is copied, or, where it is only read again, linked to.
    """
    from medcli.engine.export_source import CODE, parts_of

    whole = aside / _WHOLE
    has_code = work.trusted and not work.converter  # the converter is never given code of the model's
    if work.ref.adapters:
        _merge(work, whole, report)
        for path in [] if has_code else whole.glob(CODE):
            path.unlink()
        _place([path for path in parts_of(work.base, code=False) if _is_licence(path)], whole, report, linked=False)
    else:
        whole.mkdir()
        _place(parts_of(work.base, code=has_code), whole, report, linked=not work.keeps_whole)
        _lay_template(work.ref, whole)
    try:
        yield whole
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _write(work: _Work, whole: Path, aside: Path, report: Report) -> None:
    """What the format is made of, from the whole model into `aside`."""
    if work.converter:
        gguf.convert(work.converter, whole, aside / f"{work.name}.gguf", work.settings.outtype, report)
    elif work.keeps_whole:
        for path in whole.iterdir():
            path.replace(aside / path.name)
    else:
        _quantise(work, whole, aside, report)
    if work.modelfile:
        (aside / modelfile.FILE).write_text(work.modelfile, "utf-8")
    _place([path for path in whole.iterdir() if _is_licence(path)], aside, report, linked=False)


def _quantise(work: _Work, whole: Path, aside: Path, report: Report) -> None:
    from medcli.engine.export_quantised import quantise

    ref = replace(work.ref, base=str(whole), adapters=(), template=None)
    bits: Literal["4bit", "8bit"] = "4bit" if work.settings.format == "bnb-4bit" else "8bit"
    quantise(ref, aside, bits, QUESTIONS, work.settings.device, report)
    have = {path.name for path in aside.iterdir()}
    rest = [path for path in whole.iterdir() if path.name not in have and ".safetensors" not in path.name]
    _place([path for path in rest if not _is_licence(path)], aside, report, linked=False)


def _merge(work: _Work, whole: Path, report: Report) -> None:
    settings = work.settings
    if work.ref.is_reward:
        from medcli.engine.export_reward import write_classifier

        write_classifier(work.ref, whole, QUESTIONS, settings.device, report)
        return
    how = merging.Settings(output=str(whole), device=settings.device, trust_remote_code=settings.trust_remote_code)
    merging.merge(work.model, how, report)
    (whole / "merge.json").unlink(missing_ok=True)  # it says where things lie on this machine


def _lay_template(ref: ModelRef, whole: Path) -> None:
    """The chat template that a run was trained with, in the place of the model's own."""
    if ref.template is not None and ref.template.is_file():
        path = whole / "chat_template.jinja"
        path.unlink(missing_ok=True)  # it may be a link to the model's own
        shutil.copyfile(ref.template, path)


def _place(files: list[Path], folder: Path, report: Report, *, linked: bool) -> None:
    """Copy files into `folder`, or make links there."""
    if linked:
        for path in files:
            (folder / path.name).symlink_to(path.resolve())
        return
    if not files:
        return
    report.stage("copying", total=sum(path.stat().st_size for path in files) >> 20, unit="MiB")
    done = 0
    for path in files:
        with path.open("rb") as source, (folder / path.name).open("wb") as target:
            while piece := source.read(_PIECE):
                target.write(piece)
                done += len(piece)
                report.advance(done >> 20)


def _sum_up(folder: Path, report: Report) -> None:
    """Write the hashes of all files as `sha256sum --check` reads them."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    report.stage("hashing", total=len(files), unit="files")
    lines = []
    for number, path in enumerate(files, 1):
        lines.append(f"{sha256_of(path)}  {path.name}\n")
        report.advance(number)
    (folder / SUMS).write_text("".join(lines), "utf-8")


def _converter(settings: Settings) -> Path | None:
    """The converter, where the format has a use for one."""
    return gguf.find_converter(settings.converter) if settings.format in ("gguf", "ollama") else None


def _is_licence(path: Path) -> bool:
    return any(path.match(pattern) for pattern in _LICENCES)


def _no_folder(model: str, ref: ModelRef) -> ModelError:
    last = ref.adapters[-1]
    what = "a prefix of virtual tokens" if model_ref.prefix_length(last) else "an adapter that cannot be merged"
    return ModelError(
        f"{model} is {what}: no change of the weights, so there is no single folder of it",
        hint=f"give away the adapter's folder, {last}, which peft loads over {ref.base}\n"
        "or train with lora, freeze or full, which can be exported",
    )
