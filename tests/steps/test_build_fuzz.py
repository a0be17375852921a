"""Whatever is done to a raw file: an account that adds up, or one message; nothing is lost in silence."""

import gzip
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medcli.core.errors import MedError
from medcli.core.raw_rows import ReadOptions
from medcli.core.resources import templates
from medcli.steps.find_data import IMPORTERS, importer_for
from tests.building import SOURCES, WHOLE, check_account, made
from tests.conftest import RAW

FILES = [RAW / name for name in SOURCES if (RAW / name).is_file()] + [templates() / "knowledge" / "diseases.toml"]
# Lines that depend on each other: the graph importer asks whether a disease came before, medmcqa's how answers count.
OBJECT_LINES = [
    path
    for path in FILES
    if path.parent.name not in ("graph", "medmcqa")
    and path.read_bytes().lstrip()[:1] == b"{"
    and path.read_bytes().count(b"\n{") > 6
]
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SPOILERS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\t",
    b"\0",
    b"\\",
    b"\\ud800",
    b"}{",
    b'"""',
    b"\r",
    b"\x1a",
]
SPOILERS += [
    "头疼".encode("gb18030"),
    "头疼".encode("utf-16"),
    b"[" * 3000,
    b'{"a":' * 3000,
    b"\xef\xbb\xbf",
    b"NaN",
    b"1e999",
]


def check_built_or_told(*target, **given):
    """Build; True when a set came out of it whose account adds up, False when one message said why not."""
    try:
        dataset = made(*target, **given)
    except MedError as error:
        assert error.message
        return False
    check_account(dataset)
    return True


def spoilt(data, content):
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert", "drop", "repeat"])):
            case "set":
                content[at] = data.draw(st.integers(0, 255))
            case "cut":
                content = content[: max(at, 1)]
            case "insert":
                content[at:at] = data.draw(st.sampled_from(SPOILERS) | st.binary(max_size=8))
            case "drop":
                del content[at : at + data.draw(st.integers(1, 60))]
                content = content or bytearray(b"x")
            case "repeat":
                content[at:at] = content[at : at + 200]
    return bytes(content)


@cache
def files_of(importer):
    """The raw files that an importer reads; all of them for one that is taken by name only."""
    return [path for path in FILES if importer_for(path) == importer] or FILES


@pytest.mark.parametrize("importer", IMPORTERS.names())
@settings(FUZZ, max_examples=12)
@given(data=st.data())
def test_spoilt_bytes_give_rows_or_a_message(project, importer, data):
    """Every importer over its own files, and over those of others, after mutations."""
    source = data.draw(st.sampled_from(files_of(importer)) | st.sampled_from(FILES))
    shutil.rmtree(project / "data", ignore_errors=True)
    path = project / source.name
    path.write_bytes(spoilt(data, source.read_bytes()))
    check_built_or_told(path, importer=data.draw(st.sampled_from(["", importer, importer])))
    path.unlink()


@settings(FUZZ, max_examples=30)
@given(data=st.data())
def test_spoilt_folders_give_rows_or_a_message(project, data):
    """Folders whose files are joined: a fault in one must not cost the others' rows in silence."""
    name = data.draw(st.sampled_from(WHOLE))
    raw = project / "raw"
    shutil.rmtree(project / "data", ignore_errors=True)
    shutil.rmtree(raw, ignore_errors=True)
    shutil.copytree(RAW / name, raw)
    path = data.draw(st.sampled_from(sorted(p for p in raw.rglob("*") if p.is_file())))
    path.write_bytes(spoilt(data, path.read_bytes()))
    right = importer_for(RAW / name)
    pairs = ["cmedqa_pairs"] if right == "cmedqa" else []
    check_built_or_told(raw, importer=data.draw(st.sampled_from(["", right, *pairs])))


@FUZZ
@given(data=st.data())
def test_a_spoilt_line_costs_only_itself(project, data):
    """Of JSON Lines one line is replaced by anything that is text: every other record is still read, as it was."""
    source = data.draw(st.sampled_from(OBJECT_LINES))
    importer = IMPORTERS.get(importer_for(source))
    lines = source.read_text("utf-8").splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    rubbish = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
    line = data.draw(
        st.one_of(
            rubbish, st.just(lines[at][: len(lines[at]) // 2]), st.just(lines[at] + lines[at]), st.just("[" * 3000)
        )
    )
    path = project / source.name
    path.write_text("\n".join([*lines[:at], line or "x", *lines[at + 1 :]]) + "\n", "utf-8")
    before = [row for row in importer.read(source, ReadOptions(source="t")) if row.line != at + 1]
    after = [row for row in importer.read(path, ReadOptions(source="t")) if row.line != at + 1]
    assert [(row.line, row.reason, row.text) for row in after] == [(row.line, row.reason, row.text) for row in before]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "jsonl.gz"])
def test_a_truncated_archive_is_told(project, kind):
    rows = b"".join(
        json.dumps({"question": f"第{n}问{n * 7919}", "answer": f"第{n}答{n * 104729}"}).encode() + b"\n"
        for n in range(2000)
    )
    packed = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("rows.jsonl", rows)
    elif kind == "tar.gz":
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            member = tarfile.TarInfo("rows.jsonl")
            member.size = len(rows)
            archive.addfile(member, io.BytesIO(rows))
    else:
        packed.write(gzip.compress(rows))
    path = project / f"rows.{kind}"
    for part in (0.02, 0.3, 0.7, 0.95, 0.999):
        path.write_bytes(packed.getvalue()[: int(len(packed.getvalue()) * part)])
        assert not check_built_or_told(path), part
        assert not (project / "data").exists() or not any((project / "data").iterdir()), part
    path.write_bytes(packed.getvalue())
    assert check_built_or_told(path, near=1.0)


def test_a_line_of_ten_megabytes_is_a_row(project):
    long = "血压高怎么办？" * ((10 << 20) // 21)
    rows = [
        {"question": "头疼", "answer": "休息"},
        {"question": long, "answer": "答"},
        {"question": "腹痛", "answer": "就诊"},
    ]
    (project / "a.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    dataset = made("a.jsonl")
    check_account(dataset)
    assert dataset.manifest["counts"]["kept"] == 2
    assert dataset.manifest["counts"]["refused"] == 1  # longer than --max-chars


@pytest.mark.parametrize("end", ["", "\n", "\n\n", " "])
def test_objects_glued_together_are_all_read(project, end):
    objects = [json.dumps({"question": f"第{n}问", "answer": f"第{n}答"}, ensure_ascii=False) for n in range(4000)]
    (project / "a.json").write_text("".join("".join(objects[n : n + 20]) + end for n in range(0, 4000, 20)), "utf-8")
    rows = list(IMPORTERS.get("pairs").read(project / "a.json", ReadOptions(source="t")))
    assert [row.record.messages[0].content for row in rows] == [f"第{n}问" for n in range(4000)]
    assert rows[-1].line == (4000 // 20 - 1) * end.count("\n") + 1
    assert len({row.record.id for row in rows}) == 4000


class Payload:
    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.mark.parametrize(
    "name", ["rows.pkl", "rows.json", "rows.jsonl", "rows.csv", "rows.txt", "model.bin", "rows.pt"]
)
def test_a_pickle_is_never_loaded(project, name):
    (project / name).write_bytes(pickle.dumps(Payload()))
    check_built_or_told(project / name)
    assert not (project / "executed").exists()


def test_an_archive_cannot_write_outside_its_folder(project):
    rows = b"".join(json.dumps({"question": f"{n}问题{n}", "answer": f"{n}回答{n}"}).encode() + b"\n" for n in range(9))
    with zipfile.ZipFile(project / "a.zip", "w") as archive:
        archive.writestr("../../evil.jsonl", rows)
    with tarfile.open(project / "b.tar.gz", "w:gz") as archive:
        for name in ("../evil2.jsonl", str(project.parent / "evil3.jsonl")):
            member = tarfile.TarInfo(name)
            member.size = len(rows)
            archive.addfile(member, io.BytesIO(rows))
        link = tarfile.TarInfo("link.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    for name in ("a.zip", "b.tar.gz"):
        check_built_or_told(project / name, near=1.0)
    assert not list(project.parent.rglob("evil*"))
    assert not any("root:" in path.read_text("utf-8") for path in (project / "data").rglob("*.jsonl"))


@pytest.mark.parametrize("kind", ["zip", "gz", "tar.gz"])
def test_an_archive_cannot_explode(project, kind):
    zeros = b" " * (100 << 20)
    path = project / f"bomb.jsonl.{kind}" if kind == "gz" else project / f"bomb.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb.jsonl", zeros)
    elif kind == "gz":
        path.write_bytes(gzip.compress(zeros))
    else:
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo("bomb.jsonl")
            member.size = len(zeros)
            archive.addfile(member, io.BytesIO(zeros))
    assert not check_built_or_told(path)
