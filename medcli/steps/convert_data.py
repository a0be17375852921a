"""Write a built data set as other tools read it: OpenAI, ShareGPT, Alpaca, messages, LLaMA-Factory.

Shapes: https://developers.openai.com/api/docs/guides/supervised-fine-tuning and …/direct-preference-optimization,
LLaMA-Factory's data/README.md, and TRL's conversational preference format.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from medcli.core import dataset_info
from medcli.core.atomic import folder_aside, remove_leftovers
from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.errors import DataError, UnknownNameError, UsageError
from medcli.core.record import Conversation, Message, Preference, Record, message_rows, to_row
from medcli.core.report import Report

_TOLD_EVERY = 1000  # records
_BOOKKEEPING = ("id", "source", "meta")  # columns of ours that other tools have no place for
_FROM = {"user": "human", "assistant": "gpt", "system": "system"}
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The finished folder. `counts`: split -> records, for the splits that hold any."""

    path: Path
    target: str
    kind: str
    licence: str
    counts: Mapping[str, int]


def convert(dataset: DatasetFolder, target: str, out: Path, report: Report) -> Converted:
    """Write every split of `dataset` into the folder `out`, which appears when all is written.

    Raises UnknownNameError, DataError when the target has no place for such records, UsageError when `out` exists.
    """
    shape = shape_for(target, dataset.kind)
    remove_leftovers(out)
    if out.exists():
        raise UsageError(f"{out} exists", hint="remove it, or choose another folder with --out")
    splits = [split for split in SPLITS if dataset.count(split)]
    with folder_aside(out) as aside:
        counts = {split: _write(dataset, split, shape, aside, report) for split in splits}
        if target == "llamafactory":
            _register(aside, dataset, splits)
        licence = str(dataset.manifest.get("licence") or "unknown")
        converted = Converted(path=out, target=target, kind=dataset.kind, licence=licence, counts=counts)
        (aside / "README.md").write_text(_readme(dataset, converted), encoding="utf-8")
    return converted


def shape_for(target: str, kind: str) -> Callable[[Any], Row]:
    """What makes a row of `target` from a record; raises DataError naming the targets that have a place for `kind`."""
    if target not in TARGETS:
        raise UnknownNameError("format", target, TARGETS)
    if kind not in TARGETS[target]:
        able = [name for name, shapes in TARGETS.items() if kind in shapes]
        raise DataError(
            f"the format {target} has no place for {kind}s", hint=f"what has: {', '.join(f'--to {a}' for a in able)}"
        )
    return TARGETS[target][kind]


def _write(dataset: DatasetFolder, split: str, shape: Callable[[Record], Row], folder: Path, report: Report) -> int:
    report.stage(f"writing {split}", dataset.count(split), "records")
    done = 0
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for done, record in enumerate(dataset.records(split), 1):
            _check_turns(record, dataset.file(split), done)
            file.write(json.dumps(shape(record), ensure_ascii=False) + "\n")
            if done % _TOLD_EVERY == 0:
                report.advance(done)
    report.advance(done)
    if done != dataset.count(split):
        raise DataError(
            f"{dataset.file(split)} holds {done:,} records, its manifest says {dataset.count(split):,}",
            hint="build the data set again",
        )
    return done


def _check_turns(record: Record, path: Path, line: int) -> None:
    """Every target wants the turns as the gates leave them; a data set changed by hand may have others.

    OpenAI takes no dialogue whose last message is not the assistant's; LLaMA-Factory drops one without a word.
    """
    match record:
        case Conversation(messages=messages):
            last = "assistant"
        case Preference(prompt=messages):
            last = "user"
        case _:
            return
    _, turns = _parted(messages)
    in_turn = all(turn.role == ("assistant" if index % 2 else "user") for index, turn in enumerate(turns))
    if not turns or not in_turn or turns[-1].role != last:
        raise DataError(
            f"{path}:{line}: its turns do not go user, assistant, … and end with the {last}",
            hint="build the data set again",
        )


def _parted(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """The system message, "" when there is none, and the turns after it."""
    if messages and messages[0].role == "system":
        return messages[0].content, messages[1:]
    return "", messages


def _plain(record: Record) -> Row:
    """The field's standard columns, which transformers and TRL read."""
    return {column: value for column, value in to_row(record).items() if column not in _BOOKKEEPING}


def _openai_preference(record: Preference) -> Row:
    return {
        "input": {"messages": message_rows(record.prompt)},
        "preferred_output": [{"role": "assistant", "content": record.chosen}],
        "non_preferred_output": [{"role": "assistant", "content": record.rejected}],
    }


def _sharegpt(record: Conversation) -> Row:
    return _sharegpt_turns(record.messages)


def _sharegpt_preference(record: Preference) -> Row:
    answers = {"chosen": record.chosen, "rejected": record.rejected}
    return _sharegpt_turns(record.prompt) | {key: {"from": "gpt", "value": text} for key, text in answers.items()}


def _sharegpt_turns(messages: Sequence[Message]) -> Row:
    system, turns = _parted(messages)
    return {"conversations": [{"from": _FROM[t.role], "value": t.content} for t in turns], "system": system}


def _alpaca(record: Conversation) -> Row:
    return _alpaca_prompt(record.messages[:-1]) | {"output": record.messages[-1].content}


def _alpaca_preference(record: Preference) -> Row:
    return _alpaca_prompt(record.prompt) | {"chosen": record.chosen, "rejected": record.rejected}


def _alpaca_prompt(messages: Sequence[Message]) -> Row:
    system, turns = _parted(messages)
    history = [[asked.content, said.content] for asked, said in zip(turns[:-1:2], turns[1::2], strict=True)]
    return {"instruction": turns[-1].content, "input": "", "history": history, "system": system}


# format -> kind of record -> row. What stands on neither side of a format is said by `shape_for`.
TARGETS: dict[str, dict[str, Callable[[Any], Row]]] = {
    "openai": {"conversation": _plain, "preference": _openai_preference},
    "sharegpt": {"conversation": _sharegpt, "preference": _sharegpt_preference},
    "alpaca": {"conversation": _alpaca, "preference": _alpaca_preference, "document": _plain},
    "messages": {"conversation": _plain, "preference": _plain, "document": _plain, "question": _plain},
    "llamafactory": {"conversation": _sharegpt, "preference": _sharegpt_preference, "document": _plain},
}
_COLUMNS = {
    "conversation": {"messages": "conversations", "system": "system"},
    "preference": {"messages": "conversations", "system": "system", "chosen": "chosen", "rejected": "rejected"},
    "document": {"prompt": "text"},
}


def _register(folder: Path, dataset: DatasetFolder, splits: Sequence[str]) -> None:
    """Name each split in a dataset_info.json: train by the data set's name, the others as NAME-valid, NAME-test.

    One entry for the whole folder would train on the test split too.
    """
    entries = {}
    for split in splits:
        entry: Row = {"file_name": f"{split}.jsonl", "file_sha1": _sha1(folder / f"{split}.jsonl")}
        if dataset.kind != "document":
            entry |= {"formatting": "sharegpt", "tags": _TAGS}
        if dataset.kind == "preference":
            entry["ranking"] = True
        name = dataset.name if split == "train" else f"{dataset.name}-{split}"
        entries[name] = entry | {"columns": _COLUMNS[dataset.kind]}
    text = json.dumps(entries, ensure_ascii=False, indent=2)
    (folder / dataset_info.FILE).write_text(text + "\n", encoding="utf-8")


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha1").hexdigest()


def _readme(dataset: DatasetFolder, converted: Converted) -> str:
    files = "\n".join(f"- {split}.jsonl: {count:,} {dataset.kind}s" for split, count in converted.counts.items())
    return (
        f"# {dataset.name}\n\n{files}\n\nFormat: {converted.target}. Licence of the data: {converted.licence}.\n"
        f"Converted by med from the data set {dataset.name}, key {dataset.manifest.get('key', 'unknown')}.\n"
    )
