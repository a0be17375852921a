"""What an evaluation can be told: which exam, on which records, and how it is sat and marked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medcli.core.settings import setting

Mode = Literal["likelihood", "cloze", "generate"]
# Settings that change neither a question nor a mark: where a model runs, what else it was asked, where answers and
# questions come from (those are compared themselves), what makes a command fail.
NOT_THE_EXAM = frozenset(
    {
        *("device", "trust_remote_code", "exam", "dataset", "gold", "answers", "scores", "general"),
        *("allow_leak", "min", "max"),
        "kb",  # a part of who sits it: `describe` tells it, and candidates with and without are compared
    }
)
RULES = "rules"  # in place of a model that plays the patient or the judge


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingSettings:
    """What every evaluation can be told, that of pairs of answers too."""

    dataset: str | None = setting(None, help="A built data set; `med data list` shows what there is.")
    split: Literal["train", "valid", "test"] | None = setting(
        None, help="The part of it to take; unless given, test, or valid when test is empty."
    )
    limit: int | None = setting(None, help="Take only so many records.", minimum=1)
    seed: int = setting(42, help="Makes drawing repeatable.", minimum=0)
    system: str | None = setting(None, help="A system message in place of the data set's own.")
    device: str = setting("auto", help="auto, cpu, cuda or cuda:N.")
    trust_remote_code: bool = setting(False, help="Run the Python files of the model's folder. Read them first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings(JudgingSettings):
    """What `med eval` can be told."""

    exam: tuple[str, ...] = setting(
        (), help="Of triage, general, dialogue and built data sets; what a set holds decides how it is examined."
    )
    max_tokens: int = setting(256, help="The longest answer, in tokens.", minimum=1)
    temperature: float = setting(0.0, help="0 takes the likeliest token; more is more varied.", minimum=0)
    top_p: float = setting(1.0, help="Draw from the likeliest tokens that make up this share.", minimum=0)
    mode: Mode | None = setting(
        None,
        help="Of exam questions: the likelier letters, the likelier text of an option, or letters read out of an "
        "answer; unless given, likelihood for models that are here and generate for all else.",
    )
    subjects: tuple[str, ...] = setting((), help="Only exam questions of these subjects or categories.")
    shots: int = setting(0, help="Questions with answers shown before each exam question; never from test.", minimum=0)
    shuffles: int = setting(0, help="Ask each exam question again so often, its options in other orders.", minimum=0)
    patient: str = setting(RULES, help="Who plays the patient of dialogue: a model, URL#NAME, or rules.")
    judge: str = setting(RULES, help="Who judges dialogue and triage: a model, URL#NAME, or rules.")
    rounds: int = setting(3, help="Questions of the patient in a dialogue, the first included.", minimum=1)
    repeats: int = setting(1, help="Ask the judge so often, and take the mean.", minimum=1)
    kb: str = setting("", help="A knowledge base that answers rest on; `med kb list` shows which there are.")
    answers: Path | None = setting(None, help="A file of answers that are there already, in place of MODEL.")
    gold: Path | None = setting(None, help="A file of right letters by id, in place of the exam's questions.")
    scores: Path | None = setting(None, help="A file of scores that a judge gave already, to be summed up.")
    allow_leak: bool = setting(False, help="Examine on questions that the model was trained on, and mark them.")
    general: tuple[str, ...] = setting(("general",), help="With --compare: exams that show what was forgotten.")
    min: tuple[str, ...] = setting((), help="Fail with exit code 7 below this: accuracy=0.6.")
    max: tuple[str, ...] = setting((), help="Fail with exit code 7 above this: unsafe-advice=0.05.")
