"""Downloading: whole files or none, gone on with after a cut, and clear words for all that a server can refuse."""

import json
import shutil
import time
from hashlib import sha256

import pytest

from medcli.core.build_settings import BuildSettings
from medcli.core.download import Address, Unreachable, download
from medcli.core.errors import DataError, ServiceError, StorageError, UsageError
from medcli.steps import build_data
from medcli.steps.fetch_data import RECORD, fetch, plan_rows
from medcli.steps.list_remote import Remote
from tests.building import Notes, check_account
from tests.conftest import RAW
from tests.steps.hub_server import ID, REVISION, serving

BIG = b"".join(b'{"question": "%d?", "answer": "%d!"}\n' % (n, n) for n in range(8_000))
SMALL = '{"question": "发热怎么办？", "answer": "多喝水，休息。"}\n'.encode()
FILES = {"README.md": b"#", "data/train.jsonl": BIG, "data/test.jsonl": SMALL, "load.py": b"raise SystemExit(1)"}


class Watch(Notes):
    """Keeps what a report was told."""

    def __init__(self):
        super().__init__()
        self.done, self.stages = [], []

    def stage(self, name, total=None, unit=""):
        self.stages.append((name, total, unit))

    def advance(self, done):
        self.done.append(done)


@pytest.fixture
def hub(project, monkeypatch):
    for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    with serving(files=dict(FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.address)
        yield hub


def remote(**given):
    return Remote(**({"name": "records", "page": "https://example.org/records", "hub": ID} | given))


def test_files_come_whole_and_are_recorded(hub):
    watch = Watch()
    place = fetch(remote(licence="MIT", commercial="yes"), "auto", watch)
    assert {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()} == {
        "data/train.jsonl", "data/test.jsonl", RECORD,
    }  # fmt: skip
    assert (place / "data/train.jsonl").read_bytes() == BIG
    record = json.loads((place / RECORD).read_text("utf-8"))
    assert REVISION in record["source"]
    assert {row["path"]: row["sha256"] for row in record["files"]} == {
        "data/train.jsonl": sha256(BIG).hexdigest(), "data/test.jsonl": sha256(SMALL).hexdigest(),
    }  # fmt: skip
    assert watch.notes[0] == "records: licence MIT; commercial use is allowed; see https://example.org/records"
    assert watch.stages == [
        (f"downloading records from {hub.address.removeprefix('http://')}", len(BIG) + len(SMALL), "bytes")
    ]
    assert watch.done == sorted(watch.done)
    assert watch.done[-1] == len(BIG) + len(SMALL)


def test_only_files_that_fit_the_patterns_come(hub):
    place = fetch(remote(files=("*test*",)), "huggingface", Watch())
    assert [p.name for p in place.rglob("*.jsonl")] == ["test.jsonl"]


def test_unchanged_files_are_not_loaded_again_and_changed_ones_are(hub):
    fetch(remote(), "auto", Watch())
    hub.asked.clear()
    watch = Watch()
    fetch(remote(), "auto", watch)
    assert hub.loads() == []
    assert "2 files are there already" in watch.notes[-1]
    hub.files["data/test.jsonl"] = SMALL * 2
    del hub.files["data/train.jsonl"]
    place = fetch(remote(), "auto", Watch())
    assert len(hub.loads()) == 1
    assert [p.name for p in place.rglob("*.jsonl")] == ["test.jsonl"]  # what the source has no more is gone


def test_a_file_that_was_damaged_on_disk_is_loaded_again(hub):
    place = fetch(remote(), "auto", Watch())
    (place / "data/train.jsonl").write_bytes(BIG[:-5] + b"?????")
    hub.asked.clear()
    fetch(remote(), "auto", Watch())
    assert (place / "data/train.jsonl").read_bytes() == BIG
    assert hub.loads() == [""]


def test_a_cut_connection_goes_on_where_it_broke(hub):
    hub.files = {"train.jsonl": BIG}
    hub.cuts = [100_000, 0, 50_000]
    watch = Watch()
    place = fetch(remote(), "auto", watch)
    assert (place / "train.jsonl").read_bytes() == BIG
    assert hub.sent == len(BIG)  # no byte twice
    assert hub.loads() == ["", "bytes=100000-", "bytes=100000-", "bytes=150000-"]
    assert watch.done == sorted(watch.done)


def test_the_next_command_goes_on_where_the_last_was_stopped(hub):
    hub.files = {"train.jsonl": BIG}

    class Stop(Watch):
        def advance(self, done):
            if done > 100_000:
                raise KeyboardInterrupt

    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        fetch(remote(), "auto", stop)
    assert "the same command goes on" in stop.notes[-1]
    part = remote().folder / "train.jsonl.part"
    have = part.stat().st_size
    assert have > 100_000
    hub.asked.clear()
    place = fetch(remote(), "auto", Watch())
    assert hub.loads() == [f"bytes={have}-"]
    assert (place / "train.jsonl").read_bytes() == BIG
    assert {path.name for path in place.iterdir()} == {"train.jsonl", RECORD}


def test_a_part_of_another_version_is_not_gone_on_with(hub):
    hub.files = {"train.jsonl": BIG}
    hub.cuts = [100_000, 0, 0, 0, 0]
    with pytest.raises(Unreachable, match="breaks again and again"):
        fetch(remote(), "auto", Watch())
    hub.files["train.jsonl"] = BIG[::-1]
    place = fetch(remote(), "auto", Watch())
    assert (place / "train.jsonl").read_bytes() == BIG[::-1]


def test_a_server_without_ranges_sends_the_file_anew(hub):
    hub.files, hub.has_ranges, hub.cuts = {"train.jsonl": BIG}, False, [100_000]
    place = fetch(remote(), "auto", Watch())
    assert (place / "train.jsonl").read_bytes() == BIG


def test_a_fault_that_passes_is_waited_for(hub):
    hub.statuses = [503, 429]
    place = fetch(remote(), "auto", Watch())
    assert (place / "data/train.jsonl").read_bytes() == BIG


def test_what_a_server_refuses_is_explained(hub):
    hub.token = "secret"
    with pytest.raises(ServiceError, match="answered 401") as gated:
        fetch(remote(), "auto", Watch())
    assert "https://example.org/records, accept its terms, then set HF_TOKEN" in gated.value.hint
    with pytest.raises(ServiceError, match="answered 404") as gone:
        fetch(remote(hub="someone/else"), "auto", Watch())
    assert "moved or removed" in gone.value.hint


def test_a_token_is_shown_to_the_hub(hub, monkeypatch):
    hub.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(remote(), "auto", Watch())
    assert ("Bearer secret") in dict(hub.secrets).values()


def test_a_token_is_not_shown_to_another_host(hub, tmp_path):
    with serving(files={"a.json": b"[]"}) as other:
        address = Address(url=f"{hub.address}/away", secrets={"Authorization": "Bearer secret"})
        hub.moved = {"away": f"{other.address}/cdn/a.json"}
        download(address, tmp_path / "a.json", None, lambda there: None)
        assert other.secrets == [("/cdn/a.json", "")]


@pytest.mark.parametrize(
    "path", ["../outside.json", "/etc/outside.json", "a\\..\\b.json", "a/../../b.json", "a\n.json"]
)
def test_no_file_leaves_the_folder(hub, path):
    hub.files[path] = SMALL
    with pytest.raises(ServiceError, match="would leave its folder"):
        fetch(remote(), "auto", Watch())
    assert not list(remote().folder.parent.rglob("*.json*"))


def test_a_registry_that_lies_with_the_data_is_not_loaded(hub, project):
    """It could name any file of this machine under the name that is asked for."""
    (project / "secret.json").write_text('[{"instruction": "a", "output": "b"}]', "utf-8")
    entry = {"records": {"file_name": str(project / "secret.json")}}
    hub.files = {"dataset_info.json": json.dumps(entry).encode(), "train.jsonl": SMALL}
    place = fetch(remote(files=("*.json*",)), "auto", Watch())
    assert [p.name for p in place.iterdir() if p.name != RECORD] == ["train.jsonl"]


def test_a_list_of_another_form_is_told(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.address}/odd")
    with pytest.raises(ServiceError, match="has not the form it should have"):
        fetch(remote(), "auto", Watch())


def test_only_the_web_is_followed(hub, tmp_path):
    (tmp_path / "secret.json").write_text("[]", "utf-8")
    for place in ((tmp_path / "secret.json").as_uri(), "ftp://127.0.0.1/x.json"):
        hub.moved = {"away": place}
        with pytest.raises(ServiceError):
            download(Address(url=f"{hub.address}/away"), tmp_path / "a.json", None, lambda there: None)
    assert not (tmp_path / "a.json").exists()


def test_a_damaged_or_wrong_file_is_not_kept(hub):
    hub.says_sha = {"data/train.jsonl": "0" * 64}
    with pytest.raises(DataError, match="arrived damaged: its sha256"):
        fetch(remote(), "auto", Watch())
    assert not (remote().folder / "data/train.jsonl").exists()
    hub.says_sha, hub.says_size = {}, {"data/train.jsonl": 5}
    with pytest.raises(DataError, match="in place of the 5"):
        fetch(remote(), "auto", Watch())


def test_a_disk_without_room_is_said_before_loading(hub):
    size = shutil.disk_usage("/").total * 1000
    hub.says_size = {"data/train.jsonl": size}
    with pytest.raises(StorageError, match="are free on this disk"):
        fetch(remote(), "auto", Watch())
    assert hub.loads() == []


def test_a_form_that_is_not_read_is_said_before_loading(hub):
    hub.files = {"data/train.xyz": BIG}
    with pytest.raises(DataError, match="in a form that med does not read: data/train.xyz"):
        fetch(remote(files=("data/*",)), "auto", Watch())
    with pytest.raises(DataError, match="no data file of records: looked for"):
        fetch(remote(files=("*.csv",)), "auto", Watch())
    assert hub.loads() == []


def test_modelscope(hub, monkeypatch):
    place = fetch(remote(hub="", modelscope=ID), "auto", Watch())
    assert (place / "data/train.jsonl").read_bytes() == BIG
    hub.asked.clear()
    fetch(remote(modelscope=ID), "huggingface", Watch())  # the same bytes, whichever hub names them
    assert len(hub.loads()) == 1  # a small file has a git hash there
    hub.token = "secret"
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    shutil.rmtree(place)
    fetch(remote(hub="", modelscope=ID), "modelscope", Watch())
    assert ("m_session_id=secret") in dict(hub.secrets).values()


def test_plain_addresses(hub):
    urls = tuple(f"{hub.address}/cdn/data/{name}" for name in ("train.jsonl", "test.jsonl"))
    plain = remote(hub="", urls=urls)
    hub.cuts = [10_000]
    place = fetch(plain, "auto", Watch())
    assert (place / "train.jsonl").read_bytes() == BIG
    hub.asked.clear()
    fetch(plain, "auto", Watch())
    assert hub.loads() == []
    with pytest.raises(ServiceError, match="a web page in place of a file"):
        fetch(remote(hub="", urls=(f"{hub.address}/plain/page.json",)), "auto", Watch())


def test_another_hub_is_tried_where_the_first_is_out_of_reach(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    watch = Watch()
    place = fetch(remote(modelscope=ID), "auto", watch)
    assert (place / "data/train.jsonl").read_bytes() == BIG
    assert "127.0.0.1:9 cannot be reached" in watch.notes[0]
    with pytest.raises(UsageError, match="cannot be downloaded from url"):
        fetch(remote(), "url", Watch())


def test_without_a_network_it_is_said_at_once_and_old_files_serve(hub, monkeypatch):
    fetch(remote(), "auto", Watch())
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid")
    watch = Watch()
    started = time.monotonic()
    assert fetch(remote(), "auto", watch) == remote().folder
    assert "are taken" in watch.notes[-1]
    (remote().folder / "data/train.jsonl").unlink()
    with pytest.raises(Unreachable) as error:
        fetch(remote(), "auto", Watch())
    assert time.monotonic() - started < 5
    assert "HF_ENDPOINT=https://hf-mirror.com" in error.value.hint
    assert "med data build records --raw DIR" in error.value.hint
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.com")
    with pytest.raises(UsageError, match="no web address"):
        fetch(remote(), "auto", Watch())


def test_plan_says_what_would_come(hub):
    rows = plan_rows(remote(licence="MIT", commercial="no"), "auto", Watch())
    assert rows[0][1] == f"2 of 2 files, {(len(BIG) + len(SMALL)) / 1e6:.1f} MB"
    assert "no commercial use" in rows[1][1]
    assert not remote().folder.exists()
    (what, page, why), _ = plan_rows(remote(hub="someone/else"), "auto", Watch())
    assert (what, page) == ("would download", "https://example.org/records")
    assert "404" in why


@pytest.fixture
def registered(hub, project):
    (project / "dataset_info.json").write_text(json.dumps({"mine": {"hf_hub_url": ID, "folder": "data"}}), "utf-8")
    hub.files = {f"data/{path.name}": path.read_bytes() for path in (RAW / "alpaca").glob("*.json")}
    hub.files["other/train.json"] = b"[]"
    return hub


def test_build_downloads_a_registered_set(registered):
    watch = Watch()
    planned = build_data.plan("mine", BuildSettings())
    assert planned.rows()[0][:2] == ("would download", "1 of 1 files, 2.8 kB")
    assert registered.loads() == []
    dataset = build_data.build("mine", BuildSettings(), report=watch)
    check_account(dataset)
    assert dataset.manifest["importer"] == "alpaca"
    assert "licence cc0-1.0" in watch.notes[0]
    build_data.build("mine", BuildSettings(), report=watch)
    assert "nothing to do" in watch.notes[-1]
    assert len(registered.loads()) == 1


def test_a_subset_only_the_hub_knows_is_refused(registered, project):
    (project / "dataset_info.json").write_text(json.dumps({"mine": {"hf_hub_url": ID, "subset": "x"}}), "utf-8")
    with pytest.raises(UsageError, match="names the subset 'x'"):
        build_data.build("mine", BuildSettings())
