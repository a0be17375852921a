"""Everything there is to say about one data set: what it is, how to get it, and what is here of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from medcli.core.dataset_folder import built_names, open_dataset
from medcli.core.errors import UnknownNameError
from medcli.core.known_datasets import KnownDataset, known_datasets
from medcli.steps.fetch_data import read_record, size_in_words
from medcli.steps.list_remote import Remote, remote_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """`known` is None for a set of the user's own, `manifest` is empty for one that is not built.

    `commands` are (command, remark); `downloaded` is the record of what lies in the cache.
    """

    name: str
    known: KnownDataset | None
    manifest: Mapping[str, Any]
    path: str
    downloaded: Mapping[str, Any]
    commands: tuple[tuple[str, str], ...]

    def table(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "name": self.name,
            "known": asdict(self.known) if self.known else None,
            "commands": [command for command, _ in self.commands],
            "downloaded": dict(self.downloaded) or None,
            "built": {**self.manifest, "path": self.path} if self.manifest else None,
        }

    def rows(self) -> list[tuple[str, str]]:
        """(what, text), in the order to read them; raises nothing."""
        rows = _about(self.known) if self.known else [("what", f"{self.manifest['kind']}s of your own")]
        if self.downloaded:
            size = sum(file["size"] for file in self.downloaded["files"])
            what = f"{len(self.downloaded['files'])} files, {size_in_words(size)}, on {self.downloaded['date']}"
            rows += [("downloaded", what), ("", f"from {self.downloaded['source']}")]
        if self.manifest:
            counts = self.manifest["counts"]
            splits = ", ".join(f"{split} {counts[split]:,}" for split in ("train", "valid", "test"))
            rows.append(("built", f"kept {counts['kept']:,} of {counts['read']:,} rows ({splits})"))
            rows.append(
                ("", f"as {self.manifest['kind']}s, by the importer {self.manifest['importer']}, in {self.path}")
            )
            rows.append(("look at it", f"med data stats {self.name}    med data show {self.name} 1"))
        for number, (command, remark) in enumerate(self.commands):
            rows.append(("" if number else "get it", f"{command}    ({remark})" if remark else command))
        return rows


def describe(name: str) -> Description:
    """What is known of a data set that is built or known by name; raises UnknownNameError with the nearest one."""
    known, built = known_datasets(), built_names()
    if name not in known and name not in built:
        raise UnknownNameError("data set", name, {*known, *built}, hint="see them all: med data list")
    dataset = open_dataset(name) if name in built else None
    entry = known.get(name)
    remote = remote_of(entry) if entry else None
    return Description(
        name=name,
        known=entry,
        manifest=dataset.manifest if dataset else {},
        path=str(dataset.path) if dataset else "",
        downloaded=read_record(remote.folder) if remote else {},
        commands=tuple(_commands(entry, remote)) if entry else (),
    )


def _about(known: KnownDataset) -> list[tuple[str, str]]:
    uses = {"yes": "allowed", "no": "not allowed", "unknown": "unknown: ask its owners"}
    places = [
        f"Hugging Face: {known.hub}" if known.hub else "",
        f"ModelScope: {known.modelscope}" if known.modelscope else "",
        f"{len(known.urls)} files at {urlsplit(known.urls[0]).netloc}" if known.urls else "",
    ]
    return [
        ("what", known.title),
        ("kind", f"{known.kind}s, language {known.language}, read by the importer {known.importer}"),
        ("size", known.size),
        ("licence", known.licence),
        ("commercial use", uses[known.commercial]),
        ("page", known.url),
        *[("lies at", place) for place in places if place],
    ]


def _commands(known: KnownDataset, remote: Remote | None) -> list[tuple[str, str]]:
    build = f"med data build {known.name}"
    if known.shipped:
        return [(build, "")]
    by_hand = (f"{build} --raw DIR", "DIR holds the files, got from its page")
    if remote is None:
        return [by_hand]
    mirror = [(f"HF_ENDPOINT=https://hf-mirror.com {build}", "from a mirror")] if known.hub else []
    other = [(f"{build} --hub modelscope", "from ModelScope")] if known.modelscope and known.hub else []
    return [(build, "downloads it"), *mirror, *other, by_hand]
