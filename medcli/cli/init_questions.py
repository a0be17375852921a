"""The questions of `med init`, one after the other; a flag answers its question."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from medcli.cli import console
from medcli.cli.wizard import Asker, Choice
from medcli.core.base_models import base_models, largest_for, quant_for
from medcli.core.catalogue import FALLBACK, languages
from medcli.core.errors import UnknownNameError, UsageError
from medcli.core.known_datasets import known_datasets
from medcli.core.model_ref import TINY, run_names
from medcli.core.recipes import recipe_for, recipes
from medcli.core.settings import language, pass_on
from medcli.steps.first_look import Look, is_there, look_at
from medcli.steps.hardware import Hardware
from medcli.steps.init import (
    EXAMS,
    METHODS,
    TRACKERS,
    Answers,
    Purpose,
    Settings,
    checked_method,
    checked_trackers,
    methods_for,
    recipes_for,
)
from medcli.steps.rough_plan import model_of
from medcli.steps.show_data import parts_of

_OTHER = "another"
_NAMES = {"en": "English", "zh": "中文"}
_LONGEST = 70  # characters of a sample's part


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Asks for what the flags leave open; `project` is the med.toml that is there, whose answers are proposed."""

    asker: Asker
    given: Settings
    hardware: Hardware
    project: Mapping[str, Any]

    def answers(self) -> Answers:
        """All answers; raises UsageError for a flag that does not fit."""
        purpose = self._purpose()
        if purpose == "try":
            return Answers(language=language() or FALLBACK, purpose=purpose)
        model = self._model(purpose)
        if purpose == "eval":
            return Answers(language=language(), purpose=purpose, model=model, exam=self._exams())
        dataset, look = self._data()
        method = self._method(look.kind)
        return Answers(
            language=language(),
            purpose=purpose,
            model=model,
            dataset=dataset,
            look=look,
            method=method,
            recipe=self._recipe(method),
            quant=self._quant(model, method),
            track=self._trackers(),
        )

    def speak(self) -> None:
        """Ask for the language first: everything after is said in it."""
        chosen = self.given.language
        if chosen is not None and chosen not in languages():
            raise UnknownNameError("language", chosen, languages())
        shown = [Choice(name, _NAMES.get(name, name)) for name in languages()]
        default = language() if language() in languages() else FALLBACK
        pass_on({"MED_LANG": chosen or self.asker.choose("Language / 语言", shown, default)})

    def _purpose(self) -> Purpose:
        if self.given.purpose:
            return self.given.purpose
        words = console.words
        choices = [
            Choice("try", words("try it"), words("the whole way with a small model, in three minutes, no download")),
            Choice("train", words("fine-tune"), words("a model on your data, or on a known data set")),
            Choice("eval", words("evaluate"), words("a model on medical exams and safety cases")),
        ]
        default = "train" if self.given.dataset or "train" in self.project else "eval" if self.given.exam else "try"
        return cast(Purpose, self.asker.choose(words("What is this project for?"), choices, default))

    def _model(self, purpose: Purpose) -> str:
        if self.given.model:
            return self.given.model
        words, room = console.words, self.hardware.for_training
        before = str(self.project.get("train" if purpose == "train" else "chat", {}).get("model", ""))
        choices = [
            Choice(one.name, one.name, words(f"{one.billions:g}B parameters, {one.licence}, {_fit(one, room)}"))
            for one in base_models().values()
        ]
        choices += [Choice(run, run, words("a run of this project")) for run in run_names()]
        choices += [
            Choice(TINY, TINY, words("a demonstration model that is made here")),
            Choice(_OTHER, words("another one"), words("by its hub id or folder")),
        ]
        if before and before not in {choice.value for choice in choices}:
            choices.insert(0, Choice(before, before, words("as it stands in med.toml")))
        proposed = largest_for(room) if self.hardware.gpus else next(iter(base_models().values()))
        chosen = self.asker.choose(words("Base model?"), choices, before or proposed.name)
        return chosen if chosen != _OTHER else self.asker.write(words("Hub id or folder:"), "", _needed)

    def _data(self) -> tuple[str, Look]:
        before = str(next(iter(self.project.get("train", {}).get("dataset", ())), ""))
        given = self.given.dataset or self._source(before)
        if given == before and not is_there(before):
            console.note(f"{before} of med.toml is not built yet")
            return "FILE", Look(name=before, importer="", kind=self._kind_before(), is_here=False)
        look = look_at(given, self.given.name or "")
        _show(look)
        if look.is_built or given in known_datasets() or self.given.name:
            return given, look
        name = self.asker.write(console.words("Name of the data set:"), look.name, lambda name: _can_be(given, name))
        return given, look_at(given, name)

    def _kind_before(self) -> str:
        """The records that the method of med.toml learns from."""
        before = next((name for name in METHODS.names() if name in self.project.get("train", {})), "lora")
        return str(METHODS.get(before).READS.kinds[0])

    def _source(self, before: str) -> str:
        words = console.words
        if self.asker.silent:
            if not before:
                raise UsageError("--dataset is missing", hint="name a file, a folder, or a name of `med data list`")
            return before
        conversations = [one for one in known_datasets().values() if one.kind != "question"]
        choices = [Choice("", words("your own"), words("a file, folder or archive; its format is found out"))]
        choices += [Choice(before, before, words("as it stands in med.toml"))] if before else []
        choices += [
            Choice(one.name, one.name, words(f"{one.language}, {one.licence}, commercial use: {one.commercial!s}"))
            for one in conversations
            if one.name != before
        ]
        chosen = self.asker.choose(words("Learn from which data?"), choices, before)
        return chosen or self.asker.write(words("File or folder:"), "", _readable, is_path=True)

    def _method(self, kind: str) -> str:
        if self.given.method:
            return checked_method(self.given.method, kind)
        fitting = methods_for(kind)
        if not fitting:
            raise UsageError(
                f"the data hold {kind}s, which no method learns from",
                hint="an exam is for measuring: med init --purpose eval --exam NAME",
            )
        before = next((name for name in fitting if name in self.project.get("train", {})), "")
        choices = [Choice(name, name, console.words(METHODS.get(name).HELP)) for name in fitting]
        default = before or ("lora" if "lora" in fitting else fitting[0])
        return self.asker.choose(console.words("Train how?"), choices, default)

    def _recipe(self, method: str) -> str:
        if self.given.recipe is not None:
            return "" if self.given.recipe == "none" else recipe_for(self.given.recipe, method).name
        if not recipes_for(method):
            return ""
        before = str(self.project.get("train", {}).get(method, {}).get("recipe", ""))
        choices = [Choice("", console.words("none"), console.words("med's own settings"))]
        choices += [Choice(name, name, recipes()[name].about) for name in recipes_for(method)]
        return self.asker.choose(console.words("With the settings of a published system?"), choices, before)

    def _quant(self, model: str, method: str) -> str:
        found = model_of(model)
        if method != "lora" or found is None or not self.hardware.gpus:
            return "none"
        return quant_for(found, self.hardware.for_training) or "4bit"

    def _trackers(self) -> tuple[str, ...]:
        if self.given.track is not None:
            return checked_trackers(self.given.track)
        before = str(next(iter(self.project.get("train", {}).get("track", ())), ""))
        words = console.words
        choices = [
            Choice("", words("none"), words("figures and a picture lie in runs/NAME, and `med runs` shows them"))
        ]
        choices += [Choice(name, name) for name in TRACKERS]
        chosen = self.asker.choose(words("Follow the training elsewhere, too?"), choices, before)
        return (chosen,) if chosen else ()

    def _exams(self) -> tuple[str, ...]:
        if self.given.exam:
            return self.given.exam
        words = console.words
        choices = [
            Choice("triage,general", "triage, general", words("is it safe, and does it still know everyday things")),
            Choice("triage", "triage", words("214 cases: emergencies, contraindications, what to refuse")),
            Choice("general", "general", words("120 questions that are not about medicine")),
        ]
        return tuple(self.asker.choose(words("Which exams?"), choices, ",".join(EXAMS)).split(","))


def _fit(model: Any, room: float) -> str:
    words = console.words
    known = {"none": words("fits"), "8bit": words("fits in 8 bits"), "4bit": words("fits in 4 bits")}
    return known.get(quant_for(model, room) or "", words("too large here"))


def _needed(text: str) -> None:
    if not text:
        raise UsageError("nothing is named", hint="for instance Qwen/Qwen3-0.6B, or ./models/qwen")


def _readable(target: str) -> None:
    _needed(target)
    look_at(target)


def _can_be(target: str, name: str) -> None:
    look_at(target, name)


def _show(look: Look) -> None:
    """What was found in the data, and three records of it, for a person to see that they are read right."""
    if not look.is_here:
        console.note(
            f"{look.name} is downloaded when it is built; licence {look.licence}, commercial use: {look.commercial}"
        )
        return
    console.note(f"{look.name}: {look.kind}s, read as {look.importer}")
    for number, record in enumerate(look.samples, 1):
        for role, text in parts_of(record):
            line = " ".join(text.split())
            console.note_text(f"  {number} {role}: {line[:_LONGEST]}{'…' if len(line) > _LONGEST else ''}")
    if look.faults:
        console.note("rows without a record:")
        for place, reason in look.faults:
            console.note_text(f"  {place}: {console.words(reason)}")
