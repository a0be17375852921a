import json
import shutil
import zipfile

import pytest

from medcli.core.errors import DataError, UnknownNameError, UsageError
from medcli.core.knowledge_base import PassageFile, base_names, bases_folder, open_base
from medcli.core.report import Silent
from medcli.steps import kb
from medcli.steps.grounded import open_library
from tests.building import Notes, alpaca
from tests.conftest import RAW, shared

pytestmark = pytest.mark.usefixtures("project")


def build(*sources, report=None, **settings):
    return kb.build([str(source) for source in sources], kb.Settings(**settings), report or Silent())


def passages(base):
    file = PassageFile(base)
    return [file[number] for number in range(len(file))]


def texts(base):
    return [passage.text for passage in passages(base)]


def refused(base):
    return [json.loads(line) for line in (base.path / "refused.jsonl").read_text("utf-8").splitlines()]


def adds_up(base):
    counts = base.manifest["counts"]
    assert counts["kept"] + counts["refused"] == counts["read"]
    assert counts["kept"] == len(passages(base)) == sum(one["passages"] for one in base.manifest["sources"])
    assert counts["refused"] == len(refused(base)) == sum(base.manifest["refused"].values())


@pytest.fixture
def guides(project):
    """A folder of texts in two encodings, Markdown, rows and pairs."""
    folder = project / "guides"
    (folder / "more").mkdir(parents=True)
    (folder / "高血压.md").write_text("# 高血压\n\n每天食盐不超过5克。\n\n## 用药\n首选长效降压药。\n", "utf-8")
    (folder / "more" / "糖尿病.txt").write_bytes("第一行。\n\n糖尿病患者应控制饮食。\n".encode("gb18030"))
    (folder / "rows.jsonl").write_text('{"text": "感冒时多喝水。"}\n{"text": ""}\n', "utf-8")
    (folder / "pairs.csv").write_text("question,answer\n便秘怎么办,多吃蔬菜。\n", "utf-8")
    (folder / ".hidden.md").write_text("不看。", "utf-8")
    return folder


def test_a_folder_of_texts_and_tables_becomes_passages_with_their_lines(guides):
    base = build(guides)
    assert base.name == "guides"
    assert {(one.source, one.text) for one in passages(base)} == {
        ("guides/高血压.md:1", "# 高血压\n\n每天食盐不超过5克。"),
        ("guides/高血压.md:5", "## 用药\n首选长效降压药。"),
        ("guides/more/糖尿病.txt:1", "第一行。\n\n糖尿病患者应控制饮食。"),
        ("guides/rows.jsonl:1", "感冒时多喝水。"),
        ("guides/pairs.csv:2", "问：便秘怎么办\n答：多吃蔬菜。"),
    }
    assert [row["at"] for row in refused(base)] == ["guides/rows.jsonl:2"]
    adds_up(base)


def test_sources_never_show_where_on_this_machine_they_lie(guides, project):
    base = build(guides.resolve())
    assert str(project) not in (base.path / "passages.jsonl").read_text("utf-8")
    assert str(project) not in (base.path / "manifest.toml").read_text("utf-8")


def test_a_folder_of_markdown_alone_and_a_single_file_are_sources(guides, project):
    (project / "notes").mkdir()
    shutil.copy(guides / "高血压.md", project / "notes")
    assert build(project / "notes").count == 2
    assert build(guides / "高血压.md").name == "高血压"


def test_a_name_that_is_no_text_is_shown_as_well_as_can_be(project):
    folder = project / "odd"
    folder.mkdir()
    (folder / "\udcff.md").write_text("多喝水。", "utf-8")
    assert [one.source for one in passages(build(folder))] == ["odd/?.md:1"]


def test_a_table_no_importer_knows_is_read_by_its_text_column(project):
    (project / "answers.csv").write_text("ans_id,content\n7,多喝水。\n", "utf-8")
    base = build("answers.csv")
    assert [(one.text, one.source) for one in passages(base)] == [("多喝水。", "answers.csv:2")]


def test_a_file_that_nothing_reads_is_told_before_anything_is_read(guides):
    (guides / "odd.csv").write_text("a,b,c\n1,2,3\n", "utf-8")
    notes = Notes()
    with pytest.raises(DataError, match="no importer fits"):
        build(guides, report=notes)
    assert base_names() == []


def test_files_in_an_archive_are_told_by_their_place_in_it(guides, project):
    with zipfile.ZipFile(project / "all.zip", "w") as archive:
        archive.write(guides / "more" / "糖尿病.txt", "books/糖尿病.txt")
    assert [one.source for one in passages(build("all.zip"))] == ["all.zip/books/糖尿病.txt:1"]


def test_long_texts_are_cut_at_sentences_and_long_answers_keep_their_question(project):
    (project / "book.txt").write_text("高血压患者要少吃盐。" * 100, "utf-8")
    (project / "qa.csv").write_text(f"question,answer\n怎么治感冒,{'多喝水多休息多睡觉。' * 50}\n", "utf-8")
    base = build("book.txt", "qa.csv", name="both", passage_length=80)
    assert all(len(text) <= 80 for text in texts(base))
    assert all(text.endswith("。") for text in texts(base))
    assert all(text.startswith("问：怎么治感冒\n答：") for text in texts(base) if "休息" in text)


def test_duplicates_are_dropped_and_counted(project):
    for name in ("a.txt", "b.txt"):
        (project / name).write_text("感冒时多喝水。\n", "utf-8")
    base = build("a.txt", "b.txt", name="both")
    assert texts(base) == ["感冒时多喝水。"]
    assert base.manifest["refused"] == {"duplicate": 1}
    adds_up(base)


def test_patients_are_masked_and_counted(project):
    note = "复诊请联系张医生，电话13812345678。\n"
    (project / "notes.txt").write_text(f"# 甲\n{note}# 甲\n{note}", "utf-8")
    base = build("notes.txt")
    for name in ("passages.jsonl", "refused.jsonl"):
        assert "13812345678" not in (base.path / name).read_text("utf-8")
    assert base.manifest["refused"] == {"duplicate": 1}
    assert "[电话1]" in texts(base)[0]
    assert base.manifest["changed"]["masked: mobile number"] == 2


def test_a_data_set_gives_what_is_to_be_learnt_and_not_what_is_held_out(med, project):
    alpaca(project / "qa.jsonl", 40)
    assert med("data", "build", "qa.jsonl", "--valid", 0.2, "--test", 0.2).exit_code == 0
    base = build("qa", name="known")
    train = [json.loads(line) for line in (project / "data/qa/train.jsonl").read_text("utf-8").splitlines()]
    assert {one.source for one in passages(base)} == {f"qa/{row['id']}" for row in train}
    assert texts(base)[0].startswith("问：问题")
    assert base.manifest["sources"][0]["kind"] == "data set"


@pytest.mark.parametrize("name", ["preference", "text", "messages"])
def test_every_kind_of_record_has_passages(name):
    base = build(RAW / name)
    assert base.count
    adds_up(base)


def test_what_a_published_exam_holds_out_stays_out(project):
    row = '{"question": "%s", "options": {"A": "水", "B": "盐"}, "answer": "水", "answer_idx": "A", "meta_info": "x"}\n'
    (project / "exam").mkdir()
    for split, count in (("train", 3), ("test", 2)):
        (project / "exam" / f"{split}.jsonl").write_text(
            "".join(row % f"{split}第{n}题，多喝什么？" for n in range(count))
        )
    base = build("exam")
    assert base.manifest["refused"] == {"held out": 1}
    assert all("train" in text and text.endswith("答：水") for text in texts(base))


def test_a_graph_has_a_passage_for_each_fact(project):
    base = build(RAW / "graph" / "cmekg.json", name="graph")
    by_fact = {(one.subject, one.attribute): one for one in passages(base)}
    fact = by_fact["大雪冻疮", "symptoms"]
    assert fact.text == "大雪冻疮的症状：手背紫红、遇热痒"
    assert fact.source == "cmekg.json:4 大雪冻疮·症状"
    adds_up(base)
    library = open_library("graph")
    first, *others = library.find("大雪冻疮有哪些症状")
    assert (first.passage, first.exact, first.score) == (fact, True, 1.0)
    assert {one.passage.subject for one in others} <= {"大雪冻疮"}
    assert library.find("秋天干燥有什么表现？")[0].passage.subject == "秋燥"


def test_the_shipped_table_of_diseases_is_a_source(project):
    base = build("knowledge")
    assert base.count > 400
    assert not base.manifest["refused"]


def test_the_same_is_not_built_again_and_something_else_is(guides):
    first = build(guides)
    before = (first.path / "manifest.toml").stat().st_mtime_ns
    notes = Notes()
    assert build(guides, report=notes).path.joinpath("manifest.toml").stat().st_mtime_ns == before
    assert "nothing to do" in notes.notes[-1]
    assert build(guides, passage_length=60).manifest["passage_length"] == 60
    (guides / "new.txt").write_text("哮喘要避免过敏原。", "utf-8")
    assert "哮喘要避免过敏原。" in texts(build(guides))


def test_what_cannot_be_built_leaves_the_old_one_whole(guides, project):
    base = build(guides)
    (project / "empty.jsonl").write_text('{"text": ""}\n', "utf-8")
    with pytest.raises(DataError, match=r"nothing to keep in 1 passages: 1 × no text in it"):
        build("empty.jsonl", name="guides")
    assert len(texts(base)) == base.count
    assert [path.name for path in bases_folder().iterdir()] == ["guides"]


def test_a_folder_of_somebody_else_is_not_replaced(guides):
    place = bases_folder() / "mine"
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(UsageError, match="would be replaced"):
        build(guides, name="mine")
    assert (place / "thesis.txt").exists()


def test_a_data_set_called_kb_is_not_built_into(guides, med, project):
    alpaca(project / "qa.jsonl", 5)
    assert med("data", "build", "qa.jsonl", "--name", "kb").exit_code == 0
    with pytest.raises(UsageError, match="is a data set"):
        build(guides)


@pytest.mark.parametrize(
    ("sources", "settings", "error", "said"),
    [
        (["nothere"], {}, UnknownNameError, "is called 'nothere'"),
        (["a/nothere.txt"], {}, DataError, "no such file"),
        (["guides", "guides"], {}, UsageError, "two sources are called 'guides'"),
        (["guides", "knowledge"], {}, UsageError, "--name is missing"),
        (["guides"], {"name": "../x"}, UsageError, "cannot name a knowledge base"),
    ],
)
def test_what_cannot_be_a_source_or_a_name_is_said(guides, sources, settings, error, said):
    with pytest.raises(error, match=said):
        build(*sources, **settings)


@pytest.mark.parametrize("name", ["passages.jsonl", "passages.starts", "facts.json", "index/vocab.index.json"])
def test_a_damaged_knowledge_base_is_a_data_error(guides, name):
    base = build(guides)
    (base.path / name).write_bytes((base.path / name).read_bytes()[:-3])
    with pytest.raises(DataError, match="build it again|guides") as told:
        open_library("guides")
    assert "build it again" in told.value.hint


def test_a_manifest_that_is_none_is_a_data_error(guides):
    base = build(guides)
    (base.path / "manifest.toml").write_text("key = [", "utf-8")
    with pytest.raises(DataError, match="manifest.toml"):
        open_base("guides").count  # noqa: B018


def test_real_files_of_a_graph_and_off_topic_questions():
    base = build(shared("kg_medical_json"), name="real")
    library = open_library("real")
    names = {one.subject for one in passages(base)}
    assert all(library.find(f"{name}的症状有哪些")[0].passage.subject == name for name in sorted(names)[:10])
    for question in ("北京到上海的高铁票多少钱", "帮我写一首关于春天的诗", "怎么申请护照", "谁是唐朝的第一个皇帝"):
        assert library.find(question) == ()
