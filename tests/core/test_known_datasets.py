"""The table of known data sets: complete, sensible, and in step with the importers."""

import re
from urllib.parse import urlsplit

import pytest

from medcli.core.known_datasets import KnownDataset, known_datasets
from medcli.core.raw import matches
from medcli.core.resources import templates
from medcli.steps.find_data import IMPORTERS
from medcli.steps.list_remote import remote_of

SETS = pytest.mark.parametrize("known", known_datasets().values(), ids=list(known_datasets()))


@SETS
def test_an_entry_is_complete(known: KnownDataset):
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", known.name)
    assert known.importer in IMPORTERS.names()
    assert known.kind in ("conversation", "preference", "document", "question")
    assert set(known.language.split(",")) <= {"zh", "en"}
    assert known.commercial in ("yes", "no", "unknown")
    assert all((known.title, known.size, known.licence))
    assert len(known.title) <= 80
    assert known.url.startswith("https://") or known.shipped


@SETS
def test_a_source_can_be_one(known: KnownDataset):
    for id in filter(None, (known.hub, known.modelscope)):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", id)
        assert known.files, "a hub holds more than the data: name the files"
    assert all(urlsplit(url).scheme == "https" and url.isascii() for url in known.urls)
    assert len(set(known.urls)) == len(known.urls)
    if known.files:
        assert all(matches(urlsplit(url).path, known.files) for url in known.urls)
    if known.shipped:
        assert (templates() / known.shipped).is_file()
        assert remote_of(known) is None


@SETS
def test_a_licence_that_forbids_commerce_is_not_said_to_allow_it(known: KnownDataset):
    if re.search(r"(?i)non-commercial|research|academic|-NC", known.licence):
        assert known.commercial == "no"
    if known.commercial == "yes":
        assert known.licence != "unknown"


def test_a_pattern_fits_a_name_or_a_path():
    assert matches("reward/test.json", ("test.json",))
    assert matches("harmless-base/train.jsonl.gz", ("harmless-*/t*.jsonl.gz",))
    assert not matches("red-team/train.jsonl.gz", ("harmless-*/t*.jsonl.gz",))
    assert not matches("a/Train.json", ("train.json",))
    assert matches("anything", ())
