"""Folders, patterns and archives as raw data: nested, many, damaged or hostile."""

import gzip
import io
import json
import tarfile
import tracemalloc
import zipfile

import pytest

from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError
from medcli.core.peek import items, look
from medcli.core.raw import open_bytes, packed_inputs, raw_files

LINE = b'{"a": 1}\n'


def put(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(source):
    return [raw.name for raw in raw_files(source)]


def tar(path, members, mode="w:gz"):
    """An archive of (name, bytes or a TarInfo as it is)."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def values(source):
    return [item.value for raw in raw_files(source) for item in items(raw)]


def test_a_folder_is_read_with_all_below_it_but_nothing_hidden(tmp_path):
    put(tmp_path, b_dot_jsonl=LINE, a__x__c_dot_jsonl=LINE, a__b_dot_jsonl=LINE, _dot_git__d_dot_jsonl=LINE)
    put(tmp_path, a__README_dot_txt=LINE, a__requirements_dot_txt=LINE, a__picture_dot_png=LINE)
    found = raw_files(tmp_path)
    assert [raw.name for raw in found] == ["b.jsonl", "a/b.jsonl", "a/x/c.jsonl"]
    assert [raw.label for raw in found] == ["b.jsonl", "a/b.jsonl", "c"]


def test_inputs_are_named_by_where_they_lie(tmp_path):
    put(tmp_path, a__x_dot_jsonl=LINE, b__x_dot_jsonl=LINE)
    with zipfile.ZipFile(tmp_path / "b" / "z.zip", "w") as archive:
        archive.writestr("one/x.jsonl", LINE)
        archive.writestr("two/x.jsonl", LINE)
    assert [name for _, name in packed_inputs(raw_files(tmp_path))] == ["a/x.jsonl", "b/x.jsonl", "b/z.zip"]


def test_links_to_folders_are_not_followed(tmp_path):
    put(tmp_path, a__x_dot_jsonl=LINE)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == ["a/x.jsonl"]


@pytest.mark.parametrize(
    "files",
    [
        ("train/a.jsonl", "dev/a.jsonl", "test/a.jsonl"),
        ("medQA.train.txt", "medQA.valid.txt", "medQA.test.txt"),
        ("train_datasets.jsonl", "validation_datasets.jsonl", "test_datasets.jsonl"),
        ("IMCS-V2_train.json", "IMCS-V2_dev.json", "IMCS-V2_test.json"),
        ("data/train-00000-of-00001.jsonl", "data/validation-00000-of-00001.jsonl", "data/test-0.jsonl"),
    ],
)
def test_names_of_files_and_folders_decide_the_split(tmp_path, files):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LINE)
    assert [(raw.name, raw.split) for raw in raw_files(tmp_path)] == [
        (files[2], "test"),
        (files[1], "valid"),
        (files[0], "train"),
    ]


def test_words_that_only_hold_train_decide_nothing(tmp_path):
    put(tmp_path, training_dot_jsonl=LINE, strain_dot_jsonl=LINE, latest_dot_jsonl=LINE)
    assert {raw.split for raw in raw_files(tmp_path)} == {""}


def test_patterns_match_files(tmp_path):
    put(tmp_path, a__1_dot_jsonl=LINE, b__1_dot_jsonl=LINE, b__2_dot_csv=LINE)
    assert names(tmp_path / "*" / "*.jsonl") == ["a/1.jsonl", "b/1.jsonl"]
    assert names(tmp_path / "b" / "?.*") == ["1.jsonl", "2.csv"]
    assert names(tmp_path / "**" / "2.csv") == ["b/2.csv"]
    with pytest.raises(DataError, match=r"\*\.tsv holds no data file"):
        raw_files(tmp_path / "*.tsv")


@pytest.mark.parametrize(("name", "mode"), [("x.tar.gz", "w:gz"), ("x.tgz", "w:gz"), ("x.tar", "w")])
def test_tar_archives(tmp_path, name, mode):
    path = tar(tmp_path / name, [("d/b.jsonl", LINE), ("d/a.jsonl", b'{"a": 2}\n'), ("d/._a.jsonl", b"\0")], mode)
    assert names(path) == [f"{name}/d/b.jsonl", f"{name}/d/a.jsonl"]  # as they stand in it
    assert values(path) == [{"a": 1}, {"a": 2}]
    assert values(tmp_path) == [{"a": 1}, {"a": 2}]
    assert sorted(found.name for found in tmp_path.iterdir()) == [name]


def test_links_devices_and_ways_out_of_a_tar_archive_are_left_out(tmp_path):
    link, device = tarfile.TarInfo("link.jsonl"), tarfile.TarInfo("device.jsonl")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    members = [("", link), ("", device), ("../out.jsonl", LINE), ("/root.jsonl", LINE), ("in.jsonl", LINE)]
    assert names(tar(tmp_path / "x.tar", members, "w")) == ["x.tar/in.jsonl"]


def test_the_later_of_two_members_with_one_name_counts(tmp_path):
    path = tar(tmp_path / "x.tgz", [("a.jsonl", LINE), ("b.jsonl", LINE), ("a.jsonl", b'{"a": 3}\n')])
    assert names(path) == ["x.tgz/b.jsonl", "x.tgz/a.jsonl"]
    assert values(path)[1] == {"a": 3}


def test_a_tar_archive_may_be_read_in_any_order(tmp_path):
    big = b"".join(b'{"a": %d, "b": "%s"}\n' % (n, b"x" * 1000) for n in range(6000))  # above what is held in memory
    members = [("a.jsonl", LINE * 5), ("big.jsonl", big), ("c.jsonl", LINE * 7)]
    for name, mode in (("x.tar", "w"), ("x.tar.gz", "w:gz")):
        found = raw_files(tar(tmp_path / name, members, mode))
        for raw, (_, content) in [*zip(found, members, strict=True), *reversed(list(zip(found, members, strict=True)))]:
            with open_bytes(raw) as file:
                assert file.read() == content


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_tar_archive_that_breaks_off_is_an_error(tmp_path, mode, share):
    path = tar(tmp_path / ("x.tar" if mode == "w" else "x.tgz"), [(f"{n}.jsonl", LINE * 5000) for n in range(9)], mode)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match="damaged"):
        raw_files(path)


def test_a_broken_header_in_the_middle_is_not_the_end(tmp_path):
    path = tar(tmp_path / "x.tar", [(f"{n}.jsonl", LINE) for n in range(9)], "w")
    content = bytearray(path.read_bytes())
    content[4 * 1024 : 4 * 1024 + 200] = b"\7" * 200
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        raw_files(path)


def test_no_tar_archive_at_all(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"nothing of that kind " * 100)
    with pytest.raises(DataError, match="not a tar archive"):
        raw_files(tmp_path)


def test_tar_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.tar.gz"
    info = tarfile.TarInfo("a.txt")
    info.size = 80 << 20
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(info.tobuf())
        for _ in range(80):
            file.write(b"0" * (1 << 20))
        file.write(b"\0" * 1024)
    with pytest.raises(DataError, match="200 times its size"):
        raw_files(path)


@pytest.mark.parametrize("kind", ["tgz", "zip", "folder"])
def test_thousands_of_small_files_cost_what_they_hold(tmp_path, kind, monkeypatch):
    """Opening each member of a tar.gz from the start would unpack 1,000 × 1 MB here; it is unpacked twice."""
    count, content = 1000, LINE * 100
    if kind == "tgz":
        source = tar(tmp_path / "x.tgz", [(f"{n}.jsonl", content) for n in range(count)])
    elif kind == "zip":
        source = tmp_path / "x.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for n in range(count):
                archive.writestr(f"{n}.jsonl", content)
    else:
        source = tmp_path
        put(tmp_path, **{f"{n}_dot_jsonl": content for n in range(count)})
    unpacked = 0
    read = gzip.GzipFile.read

    def counted(self, size=-1):
        nonlocal unpacked
        piece = read(self, size)
        unpacked += len(piece)
        return piece

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    assert len(look(source)) < 20
    assert sum(1 for raw in raw_files(source) for _ in items(raw)) == count * 100
    assert unpacked <= 4 * count * 2048


def test_a_look_at_many_files_sees_every_kind(tmp_path):
    put(tmp_path, **{f"d__{n}_dot_jsonl": LINE for n in range(300)}, labels_dot_csv=b"x,y\n1,2\n")
    seen = [peek.file for peek in look(tmp_path)]
    assert "labels.csv" in seen
    assert len(seen) == 9
    assert len(look(tmp_path)[0].files) == 301


@pytest.mark.parametrize("name", ["dialogues.pkl", "pytorch_model.bin", "data.pt"])
def test_a_pickle_is_never_loaded(tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(DataError, match="may be a pickle") as error:
        raw_files(tmp_path / name)
    assert "JSON" in error.value.hint
    with pytest.raises(DataError, match="holds no data file") as error:
        raw_files(tmp_path)
    assert name in error.value.hint
    assert "never loaded" in error.value.hint


def test_a_folder_of_other_files_says_what_there_is(tmp_path):
    put(tmp_path, train_dot_arrow=b"ARROW1")
    with pytest.raises(DataError, match="holds no data file") as error:
        raw_files(tmp_path)
    assert "train.arrow" in error.value.hint


TABLE = {str(10000 + n): {"self_report": f"头疼第{n}天", "dialogue": [{"speaker": "医生"}]} for n in range(50)}


@pytest.mark.parametrize("indent", [None, 0, 4])
def test_a_table_of_records_by_number_is_read_record_by_record(tmp_path, indent):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(TABLE, ensure_ascii=False, indent=indent), "utf-8")
    found = [item for raw in raw_files(path) for item in items(raw)]
    assert [item.value for item in found] == list(TABLE.values())
    if indent == 4:
        assert [item.line for item in found[:2]] == [2, 10]


def test_a_broken_record_in_a_table_costs_only_itself(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{\n  "1": {"a": 1},\n  "2": {"a": oops},\n  "3" {"a": 3},\n  "4": {"a": 4}\n', "utf-8")
    found = [item for raw in raw_files(path) for item in items(raw)]
    assert [item.value for item in found if not item.reason] == [{"a": 1}, {"a": 4}]
    assert [item.line for item in found if item.reason] == [3, 4, 6]
    assert found[-1].reason == "broken JSON: the file ends before the table does"


@pytest.mark.parametrize("indent", [None, 1])
def test_memory_does_not_grow_with_a_table_or_an_archive(tmp_path, indent):
    rows = {str(n): {"q": f"问题{n}：{'高血压患者能吃党参吗' * 5}"} for n in range(20_000)}
    text = json.dumps(rows, ensure_ascii=False, indent=indent).encode()
    (raw,) = raw_files(tar(tmp_path / "x.tgz", [("a.json", text)]))
    count = len(text)
    del text, rows
    encoding_of(raw)
    tracemalloc.start()
    try:
        assert sum(1 for _ in items(raw)) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < min(5 << 20, count) + (4 << 20)
