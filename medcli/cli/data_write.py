"""`med data convert` and `med data vocab`: a data set in other tools' formats, and what tokenizers make of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import Json, settle, takes
from medcli.core.dataset_folder import open_dataset
from medcli.steps import convert_data, vocab

app = typer.Typer()

To = Annotated[str, typer.Option("--to", metavar="|".join(convert_data.TARGETS), help="The format to write.")]


@app.command("convert", help="Write a built data set as OpenAI, LLaMA-Factory and other tools read it.")
def convert(
    name: Annotated[str, typer.Argument(help="A built data set.")],
    to: To,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder to write; NAME-FORMAT here.")] = None,
    json: Json = False,
) -> None:
    dataset = open_dataset(name)
    with console.watching() as report:
        done = convert_data.convert(dataset, to, out or Path(f"{dataset.name}-{to}"), report)
    if json:
        console.show_json(asdict(done) | {"path": str(done.path)})
        return
    counts = ", ".join(f"{split} {count:,}" for split, count in done.counts.items())
    console.say(f"{done.path}: {sum(done.counts.values()):,} {done.kind}s ({counts}), licence {done.licence}")


@app.command("vocab", help="Count what tokenizers make of a corpus; --extend adds the pieces a vocabulary lacks.")
@takes(vocab.Settings)
def vocab_(
    corpus: Annotated[str, typer.Argument(metavar="NAME|FILE|DIR", help="A built data set, or raw files.")],
    flags: dict[str, Any],
    json: Json = False,
) -> None:
    settings = settle(vocab.Settings, vocab.SECTION, flags).values
    with console.watching() as report:
        if settings.extend is None:
            measured, terms = vocab.measure(corpus, settings, report)
        else:
            done = vocab.extend(corpus, settings, report)
    if settings.extend is not None:
        _show_extended(done, json)
    elif json:
        shown = [asdict(term) | {"extra": term.extra} for term in terms]
        console.show_json({"measured": [vocab.as_row(row) for row in measured], "terms": shown})
    else:
        _show_measured(measured)
        columns = ("tokenizer", "word", "times", "tokens", "pieces")
        rows = [(_short(t.tokenizer), t.word, t.times, len(t.pieces), " ".join(t.pieces)) for t in terms]
        console.show_table(columns, rows, title="the words that cost most")


def _show_measured(measured: list[vocab.Measured]) -> None:
    columns = ("tokenizer", "part", "texts", "characters", "tokens", "characters a token", "broken or unknown")
    rows = [
        (
            _short(m.tokenizer),
            m.part,
            m.texts,
            m.characters,
            m.tokens,
            f"{m.characters_per_token:.3f}",
            f"{m.broken_share:.2%}",
        )
        for m in measured
    ]
    console.show_table(columns, rows)


def _short(tokenizer: str) -> str:
    """A folder by its last part."""
    return Path(tokenizer).name if Path(tokenizer).is_dir() else tokenizer


def _show_extended(done: vocab.Extended, json: bool) -> None:
    if json:
        console.show_json(vocab.summary(done, done.before.tokenizer) | {"path": str(done.path)})
        return
    _show_measured([done.before, done.after])
    console.say(
        f"{done.path}: {done.size_before:,} + {len(done.pieces):,} tokens, {done.gain:.1%} fewer on held-out text"
    )
    console.say(f"the first new ones: {' '.join(piece.text for piece in done.pieces[:12] if piece.text)}")
