"""Build a data set: read, check, de-duplicate, split and write it, with every row accounted for."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from medcli import __version__
from medcli.core.atomic import folder_aside, remove_leftovers, sha256_of
from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import HELD_OUT, SPLITS, DatasetFolder
from medcli.core.dataset_info import check_sha1
from medcli.core.errors import DataError, UsageError
from medcli.core.manifest import MANIFEST
from medcli.core.raw import packed_inputs, raw_files
from medcli.core.record import Row
from medcli.core.report import Report, Silent
from medcli.core.settings import folder
from medcli.core.shelf import Shelf
from medcli.steps.data_card import write_card
from medcli.steps.fetch_data import fetch, plan_rows, read_record
from medcli.steps.find_data import IMPORTERS, Found, find
from medcli.steps.held_out import HeldOutSet, held_out
from medcli.steps.write_data import Writer, fill_empty_splits

SECTION = "data.build"
_GATES = Shelf("medcli.gates", "gate")
GATES = ("normalise", "structure", "quality", "phi", "duplicates")
_SILENT = Silent()
# What a source holds out is not learnt but measured by, and scores are compared: it stays as it is published.
_OF_WHAT_IS_LEARNT = ("quality",)
_TOLD_EVERY = 1000  # rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """What a build would do. `inputs` are (path, name in the manifest)."""

    found: Found
    inputs: tuple[tuple[Path, str], ...]
    path: Path
    hub: str = "auto"
    origin: str = ""  # where files came from that were downloaded
    without: tuple[HeldOutSet, ...] = ()

    def rows(self) -> list[tuple[str, Any, str]]:
        """(what, value, origin) for `--plan`."""
        if self.found.remote:
            first = plan_rows(self.found.remote, self.hub, _SILENT)
        else:
            size = sum(path.stat().st_size for path, _ in self.inputs)
            first = [("will read", ", ".join(name for _, name in self.inputs), f"{size:,} bytes")]
        return [
            *first,
            ("will use", f"importer {self.found.importer or 'that fits'}", "the one that fits best or was named"),
            *((f"gate {name}", _GATES.get(name).HELP, "") for name in GATES),
            ("will write", str(self.path), "replaced whole" if self.path.exists() else "new"),
        ]


def plan(target: str, settings: BuildSettings, *, raw: Path | None = None) -> BuildPlan:
    """Find the files and the importer without building; raises what `build` raises for them."""
    if settings.valid + settings.test >= 1:
        raise UsageError(
            f"--valid {settings.valid} and --test {settings.test} leave nothing to train on",
            hint="their sum must be below 1",
        )
    found = find(target, raw, settings.name, settings.importer)
    inputs = packed_inputs(raw_files(found.source)) if found.source else []
    return BuildPlan(
        found=found, inputs=tuple(inputs), path=folder("data") / found.name, hub=settings.hub,
        without=tuple(held_out(name) for name in settings.without),
    )  # fmt: skip


def build(target: str, settings: BuildSettings, *, raw: Path | None = None, report: Report = _SILENT) -> DatasetFolder:
    """Build `data/<name>/` from a name, file or folder, or leave it when it is built from the same already.

    Raises DataError, UsageError or StorageError; then the old data set is still there whole.
    """
    planned = plan(target, settings, raw=raw)
    if planned.found.remote:
        place = fetch(planned.found.remote, settings.hub, report)
        planned = replace(plan(target, settings, raw=place), origin=read_record(place)["source"])
    if settings.verify and planned.found.entry:
        check_sha1(planned.found.entry)
    remove_leftovers(planned.path)
    size = sum(path.stat().st_size for path, _ in planned.inputs)
    report.stage(f"checking the files of {planned.found.name}", size, "bytes")
    hashes = dict(_hashes(planned, report))
    key = _key(planned, settings, hashes)
    dataset = DatasetFolder(planned.path)
    if _is_unchanged(dataset, key):
        report.note(f"{dataset.path} is built from the same files with the same settings: nothing to do")
        return dataset
    _check_replaceable(planned.path)
    with folder_aside(planned.path) as aside:
        writer = Writer(aside, planned.found.name, settings)
        with writer:
            _fill(writer, planned.found, settings, report)
        writer.sift(planned.without, report)
        _finish(writer, planned, settings, hashes, key)
        write_card(DatasetFolder(aside), report)
    return DatasetFolder(planned.path)


def _fill(writer: Writer, found: Found, settings: BuildSettings, report: Report) -> None:
    gates = {name: _GATES.get(name).gate(settings, writer.changed) for name in GATES}
    report.stage(f"reading {found.name} as {found.importer}", None, "rows")
    for row in _limited(found.rows(), settings.limit):
        record, reason = row.record, row.reason
        for name, gate in gates.items():
            if record is not None and not (name in _OF_WHAT_IS_LEARNT and row.split in HELD_OUT):
                outcome = gate(record)
                record, reason = (None, outcome) if isinstance(outcome, str) else (outcome, "")
        writer.take(row, record, reason)
        if writer.read % _TOLD_EVERY == 0:
            report.advance(writer.read)
    report.advance(writer.read)


def _limited(rows: Iterator[Row], limit: int | None) -> Iterator[Row]:
    """The rows up to the `limit`-th that holds a record; where the source decides the split, of each split."""
    if limit is None:
        yield from rows
        return
    taken: dict[str, int] = {}
    for row in rows:
        taken[row.split] = taken.get(row.split, 0) + (row.record is not None)
        if taken[row.split] <= limit:
            yield row
        elif not row.split and len(taken) == 1:
            return


def _finish(writer: Writer, planned: BuildPlan, settings: BuildSettings, hashes: dict[str, str], key: str) -> None:
    """Check the account, fill splits that stayed empty, and write the manifest last."""
    found = planned.found
    if writer.kept == 0:
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in writer.reasons.most_common(5))
        names = ", ".join(IMPORTERS.names())
        raise DataError(
            f"{found.name}: nothing to keep in {writer.read:,} rows{': ' + reasons if reasons else ''}",
            hint=f"they were read as '{found.importer}'; choose another with --importer ({names})",
        )
    fill_empty_splits(writer)
    counts = {"read": writer.read, "kept": writer.kept, "refused": writer.refused} | writer.counts
    if counts["kept"] + counts["refused"] != counts["read"] or sum(writer.counts.values()) != counts["kept"]:
        raise DataError(
            f"{found.name}: the rows do not add up: {counts}",
            hint="this is a defect in med: please report it",
        )
    table = {
        "name": found.name,
        "kind": writer.kind,
        "importer": found.importer,
        "licence": found.licence,
        **({"known": found.known} if found.known else {}),
        **({"origin": planned.origin} if planned.origin else {}),
        "med": __version__,
        "key": key,
        "counts": counts,
        "refused": dict(sorted(writer.reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        "changed": dict(sorted(writer.changed.items(), key=lambda pair: (-pair[1], pair[0]))),
        "files": {split: sha256_of(writer.path / f"{split}.jsonl") for split in SPLITS},
        "settings": _settings_table(settings),
        "inputs": [
            {"file": name, "sha256": hashes[name], "rows": rows}
            for name, rows in zip(hashes, writer.rows_from(list(hashes)), strict=True)
        ],
    }
    _write_manifest(writer.path / MANIFEST, table)


def _write_manifest(path: Path, table: dict[str, Any]) -> None:
    import tomlkit

    path.write_text(tomlkit.dumps(table), encoding="utf-8")


def _settings_table(settings: BuildSettings) -> dict[str, Any]:
    """What a rebuild needs beside the files; `name` and `importer` stand in the manifest themselves."""
    table = {key: value for key, value in asdict(settings).items() if key not in ("name", "importer", "hub", "verify")}
    return {key: value for key, value in table.items() if value is not None}


def _hashes(planned: BuildPlan, report: Report) -> Iterator[tuple[str, str]]:
    done = 0
    for path, name in planned.inputs:
        yield name, sha256_of(path)
        done += path.stat().st_size
        report.advance(done)


def _key(planned: BuildPlan, settings: BuildSettings, hashes: dict[str, str]) -> str:
    """What the outcome depends on; equal keys mean equal files."""
    found = planned.found
    without = [text for others in planned.without for text in (others.name, *others.hashes)]
    columns = [f"{part}={column}" for table in (found.columns, found.tags) for part, column in sorted(table.items())]
    inputs = [f"{name}={digest}" for name, digest in hashes.items()]
    parts = [
        __version__,
        found.name,
        found.importer,
        found.licence,
        found.known,
        *GATES,
        str(_settings_table(settings)),
        *columns,
        *inputs,
        *without,
    ]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _is_unchanged(dataset: DatasetFolder, key: str) -> bool:
    """Whether the built set has this key and its files are still as they were written."""
    if not (dataset.path / MANIFEST).is_file() or dataset.manifest.get("key") != key:
        return False
    return all(
        dataset.file(split).is_file() and sha256_of(dataset.file(split)) == dataset.sha256(split) for split in SPLITS
    )


def _check_replaceable(path: Path) -> None:
    """A folder that we did not build is not ours to replace."""
    if path.is_dir() and not (path / MANIFEST).is_file() and any(path.iterdir()):
        raise UsageError(
            f"{path} is no data set that med has built, and would be replaced",
            hint="move it away, or build under another --name",
        )
