"""Make data sets from something else than dialogues: a maker writes `made/NAME.jsonl`, and it is built like any other.

The made file has a line for every record and for every refusal, so that nothing that was read or asked is lost.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from medcli.core import model_ref
from medcli.core.atomic import writing
from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import SPLITS, DatasetFolder, open_dataset
from medcli.core.errors import DataError, ModelError, UsageError
from medcli.core.graph import Entity, dropped_rows, entities
from medcli.core.graph_index import index_of
from medcli.core.llm_settings import Ask, LlmSettings
from medcli.core.peek import items
from medcli.core.raw import Source, raw_files
from medcli.core.record import Conversation, Document, Row, to_row
from medcli.core.report import Report
from medcli.core.score import Answer
from medcli.core.settings import folder
from medcli.core.shelf import Shelf
from medcli.core.speaker import Sampling
from medcli.makers import identity, kg, kg_llm, literature, preference, rewrite
from medcli.makers.preference import Candidate, Prompt
from medcli.steps.build_data import build
from medcli.steps.find_data import find
from medcli.steps.results import speaks

MADE = "made"
_TOLD_EVERY = 1000  # rows
_CLOSENESS = "bleu"  # of medcli.metrics


def make_kg(source: Path, settings: kg.Settings, how: BuildSettings, report: Report) -> list[DatasetFolder]:
    """Questions about a knowledge graph; those with choices are a data set of their own, NAME-choice."""
    found = find(str(source), None, settings.name, "graph")
    name = settings.name or f"{found.name}-kg"
    report.stage(f"reading {source.name}", None, "diseases")
    known, faults = _read_graph(found.files(), settings.limit)
    graph = index_of(known)
    report.advance(len(graph.entities))
    if not graph.entities:
        raise DataError(
            f"{source} holds no disease", hint="it must have columns such as name, symptom, cure_department"
        )
    shares = {"valid": how.valid, "test": how.test}
    if settings.llm:
        with _asking(settings, name, report) as ask:
            rows = [*faults, *kg_llm.make(graph, ask, settings.seed, shares)]
        return [_built(rows, name, how, report)]
    forms = settings.forms or tuple(kg.FORMS)
    spoken = [form for form in forms if form != kg.CHOICE]
    sets = []
    if spoken:
        made = chain(faults, kg.make(graph, spoken, settings, shares))
        sets.append(_built(made, name, _of_templates(how), report))
    if kg.CHOICE in forms:
        made = chain(faults, kg.make(graph, [kg.CHOICE], settings, shares))
        sets.append(_built(made, f"{name}-{kg.CHOICE}" if spoken else name, _of_templates(how), report))
    return sets


def make_identity(settings: identity.Settings, how: BuildSettings, report: Report) -> DatasetFolder:
    """Dialogues in which a model says who it is; a name and a date in them are no patient's."""
    return _built(identity.make(settings), settings.name, replace(_of_templates(how), phi="off"), report)


def make_literature(
    source: Path, settings: literature.Settings, how: BuildSettings, report: Report
) -> DatasetFolder:  # fmt: skip
    """Dialogues about the documents of a file or folder."""
    _needs_service(settings)
    found = find(str(source), None, settings.name, "")
    name = settings.name or f"{found.name}-dialogues"
    rows = list(found.rows())
    documents = [
        literature.Source(document=row.record, file=row.file, line=row.line)
        for row in rows
        if isinstance(row.record, Document)
    ][: settings.limit]
    if not documents:
        raise DataError(f"{source} holds no documents", hint=f"it was read as '{found.importer}'; plain text is needed")
    with _asking(settings, name, report) as ask:
        made = [*(row for row in rows if row.reason), *literature.make(documents, ask, settings.turns)]
    return _built(made, name, how, report)


def make_rewrite(dataset: str, settings: rewrite.Settings, how: BuildSettings, report: Report) -> DatasetFolder:
    """A data set's dialogues in clean words, each in the split it was in."""
    _needs_service(settings)
    name = settings.name or f"{open_dataset(dataset).name}-rewritten"
    sources = [
        rewrite.Source(conversation=conversation, split=split, line=line)
        for split, line, conversation in _conversations(dataset, settings.limit)
    ]
    with _asking(settings, name, report) as ask:
        rows = list(rewrite.make(sources, ask))
    return _built(rows, name, how, report)


def make_preference(
    dataset: str, settings: preference.Settings, how: BuildSettings, report: Report
) -> DatasetFolder:  # fmt: skip
    """Pairs of answers to a data set's prompts, ranked by a judge, or by how close they come to its own answers.

    The judge is the service of `settings.llm`, or the reward model `settings.reward`.
    """
    if bool(settings.answers) == bool(settings.model):
        raise UsageError(
            "give either --answers or --model", hint="name files with --answers A,B, or a model with --model RUN"
        )
    if settings.llm and settings.reward:
        raise UsageError("two judges: --llm and --reward", hint="leave one of them out")
    if settings.reward and speaks(model_ref.resolve(settings.reward)):  # told before answers are drawn
        raise ModelError(
            f"--reward {settings.reward} is a model that speaks, and judges nothing",
            hint="train one that does: med train rm --model REF --dataset PAIRS",
        )
    name = settings.name or f"{open_dataset(dataset).name}-preference"
    asked = [
        Prompt(id=c.id, messages=c.messages[:-1], reference=c.messages[-1].content, answers=(), split=split, line=line)
        for split, line, c in _conversations(dataset, settings.limit)
    ]
    given = _drawn(asked, settings, report) if settings.model else _read_answers(settings.answers)
    prompts = [replace(item, answers=tuple(given.get(item.id, ()))) for item in asked]
    if not any(item.answers for item in prompts):
        raise DataError(
            f"no answer belongs to a conversation of '{dataset}'", hint="answers are found by the id of the record"
        )
    with _ranking(settings, name, report) as rank:
        rows = list(preference.make(prompts, rank, settings.margin))
    return _built(rows, name, how, report)


@contextmanager
def _ranking(settings: preference.Settings, name: str, report: Report) -> Iterator[preference.Rank]:
    """Whatever ranks the answers."""
    if settings.llm:
        with _asking(settings, name, report) as ask:
            yield preference.judge(ask)
    elif settings.reward:
        from medcli.engine.reward_model import open_reward_model

        judge = open_reward_model(model_ref.resolve(settings.reward), device=settings.device, report=report)
        report.stage("judging", None, "answers")
        yield preference.by_reward(judge, report.advance)
    else:
        yield closeness


def _read_graph(source: Source, limit: int | None) -> tuple[list[Entity], list[Row]]:
    """The entities, at most `limit`, and a row for everything that was left out on the way."""
    known: list[Entity] = []
    faults: list[Row] = []
    for item in entities(source):
        if isinstance(item, Row):
            faults.append(item)
            continue
        if len(known) == limit:
            break
        known.append(item)
        faults += dropped_rows(item)
    return known, faults


def closeness(candidates: Iterable[Candidate]) -> list[float | None]:
    """How close each answer comes to the data set's own: BLEU-4 on characters."""
    answers = [Answer(text=candidate.answer, reference=candidate.reference) for candidate in candidates]
    (column,) = Shelf("medcli.metrics", "metric").get(_CLOSENESS).scores(answers).values()
    return list(column)


def made_file(name: str) -> Path:
    """What a maker made, before the gates."""
    return folder("data") / MADE / f"{name}.jsonl"


def _built(rows: Iterable[Row], name: str, how: BuildSettings, report: Report) -> DatasetFolder:
    """Write the rows and build a data set from them."""
    report.stage(f"making {name}", None, "rows")
    path = made_file(name)
    with writing(path) as file:
        for number, row in enumerate(rows, 1):
            file.write(json.dumps(_line(row), ensure_ascii=False) + "\n")
            if number % _TOLD_EVERY == 0:
                report.advance(number)
    return build(str(path), replace(how, name=name, importer="records"), report=report)


def _line(row: Row) -> dict[str, Any]:
    if row.record is not None:
        return to_row(row.record) | {"split": row.split, "made": row.made}
    return {"reason": row.reason, "at": f"{row.file}:{row.line}", "text": row.text, "split": row.split}


def _of_templates(how: BuildSettings) -> BuildSettings:
    """Sentences from templates are alike on purpose: looking for near-duplicates would cost minutes and find none."""
    return replace(how, near=1.0)


@contextmanager
def _asking(settings: LlmSettings, name: str, report: Report) -> Iterator[Ask]:
    """The service of `settings`; its answers are kept beside the made file."""
    from medcli.engine.endpoint import Endpoint

    with Endpoint(settings, folder("data") / MADE / f"{name}.answers.jsonl", report) as endpoint:
        yield endpoint.ask


def _needs_service(settings: LlmSettings) -> None:
    if not settings.llm:
        raise UsageError(
            "--llm is missing", hint="name an OpenAI-compatible service: --llm http://localhost:8000/v1 --llm-model M"
        )


def _conversations(name: str, limit: int | None) -> Iterator[tuple[str, int, Conversation]]:
    """(split, line, conversation) of a built data set, at most `limit` of each split."""
    dataset = open_dataset(name)
    if dataset.kind != "conversation":
        raise DataError(
            f"the data set '{dataset.name}' holds {dataset.kind}s, and conversations are needed",
            hint="`med data list` shows what each data set holds",
        )
    for split in SPLITS:
        for line, record in enumerate(dataset.records(split, limit), 1):
            if isinstance(record, Conversation):
                yield split, line, record


def _drawn(asked: list[Prompt], settings: preference.Settings, report: Report) -> dict[str, list[str]]:
    """Answers that a model draws: id -> answers."""
    reference = model_ref.resolve(settings.model)

    from medcli.engine.speaker import open_speaker

    speaker = open_speaker(reference, device=settings.device, report=report)
    answers: dict[str, list[str]] = {item.id: [] for item in asked}
    for number in range(settings.samples):
        sampling = Sampling(
            temperature=settings.temperature, max_tokens=settings.max_tokens, seed=settings.seed + number
        )
        report.stage(f"drawing answers, {number + 1} of {settings.samples}", len(asked), "prompts")
        texts = speaker.replies([item.messages for item in asked], sampling, report.advance)
        for item, text in zip(asked, texts, strict=True):
            answers[item.id].append(text)
    return answers


def _read_answers(files: Iterable[str]) -> dict[str, list[str]]:
    """Answers from files: id -> answers. Raises DataError where a row has no id or no answer."""
    answers: dict[str, list[str]] = {}
    for raw in (raw for file in files for raw in raw_files(Path(file))):
        for item in items(raw):
            value = item.value
            rows = value["answers"] if isinstance(value, Mapping) and "answers" in value else [value]
            for row in rows:
                if not isinstance(row, Mapping) or not {"id", "answer"} <= set(row):
                    raise DataError(
                        f"{raw.name}:{item.line}: no id and answer", hint='one object a line: {"id": …, "answer": …}'
                    )
                answers.setdefault(str(row["id"]), []).append(str(row["answer"]))
    return answers
