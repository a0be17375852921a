"""What the tests of building data share."""

import json

from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.fingerprint import normal, question_of
from medcli.core.report import Silent
from medcli.steps.build_data import build
from tests.conftest import RAW

WHOLE = ("ceval", "cmb", "cmedqa1", "cmedqa2")  # folders whose files belong together
SOURCES = sorted(str(p.relative_to(RAW)) for p in RAW.glob("*/*") if p.parent.name not in WHOLE) + list(WHOLE)


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def made(target, raw=None, report=None, **given) -> DatasetFolder:
    return build(str(target), BuildSettings(**given), raw=raw, report=report or Silent())


def rows(dataset, stem):
    return [json.loads(line) for line in (dataset.path / f"{stem}.jsonl").read_text("utf-8").splitlines()]


def alpaca(path, count, start=0):
    text = "".join(
        json.dumps({"instruction": f"问题{n}：血压高怎么办？", "input": "", "output": f"答{n}"}, ensure_ascii=False)
        + "\n"
        for n in range(start, start + count)
    )
    path.write_text(text, "utf-8")
    return path


def check_account(dataset):
    """Every row is somewhere, and nothing is anywhere twice."""
    manifest, counts = dataset.manifest, dataset.manifest["counts"]
    assert counts["kept"] + counts["refused"] == counts["read"]
    assert sum(counts[split] for split in SPLITS) == counts["kept"]
    for split in SPLITS:
        assert len(rows(dataset, split)) == counts[split]
    refused = rows(dataset, "refused")
    assert len(refused) == counts["refused"] == sum(manifest["refused"].values())
    assert all(set(row) == {"file", "line", "reason", "text"} and len(row["text"]) <= 500 for row in refused)
    assert sum(item["rows"] for item in manifest["inputs"]) == counts["read"]
    ids = [row["id"] for split in SPLITS for row in rows(dataset, split)]
    assert len(set(ids)) == len(ids)
    asked = [{normal(question_of(record)) for record in dataset.records(split)} for split in SPLITS]
    assert not (asked[0] & asked[1] or asked[0] & asked[2] or asked[1] & asked[2])
