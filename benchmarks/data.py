"""`med data build` against what people would use instead: `datasets.map` with the same cleaning, a plain json loop.

    python benchmarks/data.py                   # 200,000 rows of about 120 characters
    python benchmarks/data.py --rows 1000000    # the size at which memory shows; minutes

Each side runs in a process of its own, in turns, over the same JSON Lines file. The json loop reads and writes rows and
does nothing else: it is the floor. `datasets.map` runs the very gates of med that look at one record, on one process,
and writes JSON Lines; it neither finds near-duplicates nor leaks, keeps no account, and hashes no file. Printed are
rows per second of CPU time as ratios, the peak memory of each side, and whether med's rate holds from a tenth of the
rows to all of them.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

SIDES = ("json", "datasets", "med")
VOCABULARY = 50_000  # words; how often each comes follows Zipf, as in any language


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(_run(options.side, Path(options.file))))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = _rows(Path(folder) / "rows.jsonl", options.rows)
        tenth = _rows(Path(folder) / "tenth.jsonl", options.rows // 10)
        rounds = [{side: _measure(side, file) for side in SIDES} for _ in range(options.rounds)]
        small = _measure("med", tenth)
    rates = {side: [options.rows / figures[side]["cpu_seconds"] for figures in rounds] for side in SIDES}
    print(f"{options.rows:,} rows, {options.rounds} rounds; rows per CPU second as ratios, peak memory")
    for side in SIDES:
        ratios = [med / other for med, other in zip(rates["med"], rates[side], strict=True)]
        peak = max(figures[side]["peak_mib"] for figures in rounds)
        print(f"med : {side:<9} x {median(ratios):.2f}   ({min(ratios):.2f} – {max(ratios):.2f})   {peak:,.0f} MiB")
    held = median(rates["med"]) / (options.rows / 10 / small["cpu_seconds"])
    print(f"med's rate at {options.rows:,} rows : at {options.rows // 10:,} rows   x {held:.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, default="", help=argparse.SUPPRESS)
    parser.add_argument("--file", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(side: str, file: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, "--file", str(file)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{side:<9}{figures}", file=sys.stderr)
    return figures


def _run(side: str, file: Path) -> dict[str, float]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        kept = {"json": run_json, "datasets": run_datasets, "med": run_med}[side](file)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime + children.ru_utime + children.ru_stime
    return {
        "kept": kept,
        "cpu_seconds": round(cpu, 2),
        "seconds": round(time.monotonic() - started, 2),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
    }


def run_json(file: Path) -> int:
    """Read, parse, write in the messages form: what nobody can do without."""
    kept = 0
    with file.open(encoding="utf-8") as source, Path("out.jsonl").open("w", encoding="utf-8") as out:
        for line in source:
            row = json.loads(line)
            messages = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
            out.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
            kept += 1
    return kept


def run_datasets(file: Path) -> int:
    """The same gates over one record through datasets.load_dataset, map, filter and to_json."""
    import datasets

    datasets.disable_progress_bars()
    check = _gates()
    rows = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir="cache")
    rows = rows.map(lambda row: _cleaned(row, check), remove_columns=rows.column_names, load_from_cache_file=False)
    rows = rows.filter(lambda row: row["messages"] is not None, load_from_cache_file=False)
    rows.to_json("out.jsonl", force_ascii=False)
    return len(rows)


def _cleaned(row: dict[str, str], gates: list[Any]) -> dict[str, Any]:
    from medcli.core.raw_rows import single_turn
    from medcli.core.record import to_row

    record: Any = single_turn("0", "bench", row["question"], row["answer"])
    for gate in gates:
        record = gate(record)
        if isinstance(record, str):
            return {"messages": None}
    return {"messages": to_row(record)["messages"]}


def _gates() -> list[Any]:
    from medcli.core.build_settings import BuildSettings
    from medcli.core.shelf import Shelf
    from medcli.steps.build_data import GATES

    settings, changed = BuildSettings(), Counter[str]()
    return [Shelf("medcli.gates", "gate").get(name).gate(settings, changed) for name in GATES]


def run_med(file: Path) -> int:
    """All of `med data build`: gates, near-duplicates, leaks, account, hashes, data card."""
    from medcli.core.build_settings import BuildSettings
    from medcli.steps.build_data import build

    Path("med.toml").touch()
    return build(str(file), BuildSettings()).manifest["counts"]["kept"]


def _rows(path: Path, count: int) -> Path:
    """Invented questions and answers; of a hundred one repeats an earlier one, one nearly does, one holds a number."""
    generator = random.Random(5)
    characters = [chr(code) for code in range(0x4E00, 0x4E00 + 2500)]
    words = ["".join(generator.choices(characters, k=generator.choice((1, 2, 2, 2, 3)))) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    lines: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            if number % 100 == 99:
                line = generator.choice(lines)
            elif number % 100 == 98:
                line = generator.choice(lines).replace("您好", "你好")
            else:
                line = _row(generator, words, weights, number)
            lines = [*lines[-500:], line]
            file.write(line)
    return path


def _row(generator: random.Random, words: list[str], weights: list[float], number: int) -> str:
    drawn = generator.choices(words, cum_weights=weights, k=50)
    question = (
        f"医生，我{generator.randrange(18, 90)}岁，{'，'.join(''.join(drawn[at : at + 5]) for at in (0, 5, 10, 15))}？"
    )
    answer = f"您好，{'，'.join(''.join(drawn[at : at + 6]) for at in (20, 26, 32, 38, 44))}。"
    if number % 100 == 97:
        answer += f"联系电话1{generator.randrange(3, 10)}{generator.randrange(10**8, 10**9)}。"
    return json.dumps({"question": question, "answer": answer}, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
