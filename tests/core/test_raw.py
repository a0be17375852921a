"""Reading raw files: encodings, archives, JSON of every shape, tables as people write them."""

import gzip
import json
import tracemalloc
import zipfile

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError
from medcli.core.peek import format_of, items, look
from medcli.core.raw import raw_files

TEXT = "高血压患者能吃党参吗？低盐饮食，规律复查。\n"


def read(path):
    return [item for raw in raw_files(path) for item in items(raw)]


def values(path):
    return [item.value for item in read(path)]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8-sig"),
        ("utf-8-sig", "utf-8-sig"),
        ("gb18030", "gb18030"),
        ("gbk", "gb18030"),
        ("utf-16", "utf-16"),
    ],
)
def test_encoding(tmp_path, encoding, found):
    path = write(tmp_path / "a.txt", TEXT * 3, encoding)
    assert encoding_of(raw_files(path)[0]) == found
    assert "".join(values(path)) == TEXT * 3


def test_encoding_is_decided_on_the_whole_file(tmp_path):
    """The head is ASCII for more than a chunk; the Chinese comes after it."""
    path = write(tmp_path / "a.txt", b"plain line\n" * 200_000 + TEXT.encode("gb18030"))
    assert encoding_of(raw_files(path)[0]) == "gb18030"


def test_a_character_over_two_chunks_is_whole(tmp_path):
    path = write(tmp_path / "a.txt", "a" * ((1 << 20) - 1) + "药" * 10)
    assert encoding_of(raw_files(path)[0]) == "utf-8-sig"


def test_damaged_utf8_is_not_taken_for_gb18030(tmp_path):
    path = write(tmp_path / "a.txt", TEXT.encode() * 2 + b"abc\xff\xfe\n" + TEXT.encode())
    with pytest.raises(DataError, match=r"a\.txt:3: byte 131 of the file is not UTF-8") as error:
        read(path)
    assert "iconv -c" in error.value.hint


@pytest.mark.parametrize("head", [b"PAR1", b"%PDF-1.7", b"\x1f\x8b\x08"])
def test_binary_files_are_named(tmp_path, head):
    with pytest.raises(DataError, match="not text"):
        read(write(tmp_path / "a.json", head + b"\0\1\2" * 100))


def test_gz_and_zip_are_read_without_unpacking(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n'))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("../../b.jsonl", '{"b": 2}\n')
    assert values(tmp_path) == [{"a": 1}, {"b": 2}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl.gz", "b.zip"]


def test_zip_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("a.txt", b"0" * (80 << 20))
    with pytest.raises(DataError, match="200 times its size"):
        read(tmp_path / "bomb.zip")


def test_damaged_archives(tmp_path):
    with pytest.raises(DataError, match="not a zip archive"):
        read(write(tmp_path / "a.zip", b"nothing"))
    whole = gzip.compress(TEXT.encode() * 100)
    with pytest.raises(DataError, match="archive is damaged"):
        read(write(tmp_path / "a.txt.gz", whole[: len(whole) // 2]))


def test_missing_file_has_the_nearest_name(tmp_path):
    write(tmp_path / "question.csv", "a,b\n")
    with pytest.raises(DataError, match="no such file or folder") as error:
        raw_files(tmp_path / "questoin.csv")
    assert "question.csv" in error.value.hint


def test_folder_without_data(tmp_path):
    write(tmp_path / "README.txt", "read me")
    with pytest.raises(DataError, match="holds no data file"):
        raw_files(tmp_path)


def test_file_names_decide_the_split_held_out_first(tmp_path):
    for name in ("train.json", "dev.json", "test.json"):
        write(tmp_path / name, "[]")
    assert [(raw.name, raw.split) for raw in raw_files(tmp_path)] == [
        ("test.json", "test"),
        ("dev.json", "valid"),
        ("train.json", "train"),
    ]


def test_json_lines_named_json(tmp_path):
    path = write(tmp_path / "a.json", '{"a": 1}\n\n{"a": 2}\n{"a": \n{"a": 4}\n')
    found = read(path)
    assert [(item.line, item.number) for item in found] == [(1, 1), (3, 2), (4, 3), (5, 4)]
    assert found[2].reason.startswith("broken JSON: ")


def test_broken_first_line_does_not_hide_json_lines(tmp_path):
    found = read(write(tmp_path / "a.json", '{"a": 1,}\n{"a": 2}\n'))
    assert [item.line for item in found if item.reason] == [1]
    assert found[1].value == {"a": 2}


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_array_is_read_with_line_numbers(tmp_path, indent):
    rows = [{"q": TEXT * 5000, "a": n} for n in range(8)]  # several chunks
    path = write(tmp_path / "a.json", json.dumps(rows, ensure_ascii=False, indent=indent))
    found = read(path)
    assert [item.value for item in found] == rows
    if indent is not None:
        assert [item.line for item in found] == [2 + 4 * n for n in range(8)]


def test_broken_array_element_costs_only_itself(tmp_path):
    path = write(tmp_path / "a.json", '[\n  {"a": 1},\n  {"a": oops},\n  {"a": "x"},\n  {"a": "open},\n  {"a": 5}\n]\n')
    found = read(path)
    assert [(item.line, item.value) for item in found if not item.reason] == [
        (2, {"a": 1}),
        (4, {"a": "x"}),
        (6, {"a": 5}),
    ]
    assert [item.line for item in found if item.reason] == [3, 5]


def test_broken_array_on_one_line_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.json:1: broken JSON in an array on one line"):
        read(write(tmp_path / "a.json", '[{"a": 1}, {"a": oops}, {"a": 3}]'))


def test_cut_array_is_noticed(tmp_path):
    found = read(write(tmp_path / "a.json", '[\n{"a": 1},\n{"a": 2},\n'))
    assert [item.value for item in found[:2]] == [{"a": 1}, {"a": 2}]
    assert found[2].reason == "broken JSON: the file ends before the array does"


def test_objects_one_after_the_other(tmp_path):
    rows = [{"conversations": [{"from": "human", "value": "头疼"}]}, {"a": 2}]
    path = write(tmp_path / "a.json", "\n".join(json.dumps(row, indent=2) for row in rows))
    assert format_of(raw_files(path)[0]) == "json"
    assert values(path) == rows


def test_deep_nesting_is_a_reason(tmp_path):
    found = read(write(tmp_path / "a.jsonl", "[" * 200_000 + '\n{"a": 1}\n'))
    assert found[0].reason == "broken JSON: nested too deeply"
    assert found[1].value == {"a": 1}


def test_csv_fields_over_lines_and_quotes(tmp_path):
    text = 'q,a\n"第一行\n第二行",答一\n他说"好"了,答二\n"带""引号""的",答三\n'
    found = read(write(tmp_path / "a.csv", text))
    assert [item.line for item in found] == [2, 4, 5]
    assert [item.value["q"] for item in found] == ["第一行\n第二行", '他说"好"了', '带"引号"的']


def test_a_quote_never_closed_costs_its_own_line(tmp_path):
    text = 'q,a\n一,答\n二,"没有关上\n' + "".join(f"问{n},答{n}\n" for n in range(2000))
    found = read(write(tmp_path / "a.csv", text))
    assert [(item.line, item.reason) for item in found if item.reason] == [(3, "a quote is never closed")]
    assert len(found) == 2002


def test_stray_quotes_do_not_swallow_rows(tmp_path):
    text = 'q,a\n一,"答\n二,答\n三,"答\n四,答\n'
    found = read(write(tmp_path / "a.csv", text))
    assert found[-1].value == {"q": "四", "a": "答"}
    assert {"q": "二", "a": "答"} in [item.value for item in found]


def test_table_widths_nul_bom_and_delimiters(tmp_path):
    found = read(write(tmp_path / "a.csv", "\ufeffq;a\n头\0疼;休息;\n少一列\n多;一;列\n\n;\n"))
    assert found[0].value == {"q": "头疼", "a": "休息"}
    assert [item.line for item in found if item.reason] == [3, 4]
    assert len(found) == 3  # rows without any text are no rows


def test_peek_names_the_columns(tmp_path):
    write(tmp_path / "a.csv", "q,a\n")
    assert look(tmp_path / "a.csv")[0].columns == ("q", "a")


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "txt"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    rows = [{"q": f"问题{n}：{TEXT.strip()}", "a": TEXT.strip() * 2} for n in range(20_000)]
    texts = {
        "json": json.dumps(rows, ensure_ascii=False),
        "jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
        "csv": "q,a\n" + "\n".join(f"{row['q']},{row['a']}" for row in rows),
        "txt": "\n".join(row["q"] for row in rows),
    }
    path = write(tmp_path / f"a.{kind}", texts[kind])
    del texts
    raw = raw_files(path)[0]
    encoding_of(raw)
    tracemalloc.start()
    try:
        count = sum(1 for _ in items(raw))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 4 << 20


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=30)), min_size=1, max_size=6))
def test_any_json_is_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("json")
    path = write(folder / "a.json", json.dumps(rows, indent=1))
    assert values(path) == rows
    path = write(folder / "b.jsonl", "\n".join(json.dumps(row) for row in rows))
    assert values(path) == rows


def test_parquet_is_read_row_by_row(tmp_path):
    rows = [{"question": f"第{n}问", "answers": [f"答{n}", None], "score": {"mean": n / 2}} for n in range(2500)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (raw,) = raw_files(tmp_path)
    found = list(items(raw))
    assert [item.value for item in found] == rows
    assert [item.line for item in found] == list(range(1, 2501))
    assert look(tmp_path)[0].columns == ("question", "answers", "score")


def test_a_damaged_parquet_file_is_told(tmp_path):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"a": "x" * 9, "b": n} for n in range(5000)]), path)
    content = path.read_bytes()
    for part in (content[:-20], content[:100], b"PAR1", content[:2000] + b"\xff" * 3000 + content[5000:]):
        path.write_bytes(part)
        with pytest.raises(DataError, match="Parquet"):
            list(items(raw_files(path)[0]))
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("rows.parquet", content)
    with pytest.raises(DataError, match="inside an archive"):
        list(items(raw_files(tmp_path / "rows.zip")[0]))
