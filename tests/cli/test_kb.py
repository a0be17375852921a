import json
import subprocess
import sys

import pytest

from medcli.cli import chat
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.speaker import Sampling
from medcli.steps import candidates
from medcli.steps.chat import Settings
from tests.building import alpaca


@pytest.fixture
def guide(med, project):
    (project / "guide.txt").write_text("高血压患者每天食盐不超过5克，少吃咸菜。\n", "utf-8")
    result = med("kb", "build", "guide.txt")
    assert result.exit_code == 0, result.stderr
    return result


def test_a_build_says_what_was_kept_and_what_comes_next(guide):
    assert "data/kb/guide: kept 1 of 1 passages" in guide.stdout
    assert "med chat MODEL --kb guide" in guide.stdout


def test_list_show_and_find_print_tables_and_json(med, guide):
    assert "guide.txt" in med("kb", "list").stdout
    assert json.loads(med("kb", "list", "--json").stdout) == [{"name": "guide", "passages": 1, "sources": "guide.txt"}]
    assert "kept 1 of 1" in med("kb", "show", "guide").stdout
    assert json.loads(med("kb", "show", "guide", "--json").stdout)["counts"]["kept"] == 1
    found = med("kb", "find", "guide", "高血压患者能吃咸菜吗")
    assert found.stdout.startswith("[1] ")
    assert "guide.txt:1\n高血压患者" in found.stdout
    [row] = json.loads(med("kb", "find", "guide", "高血压患者能吃咸菜吗", "--json").stdout)
    assert row["source"] == "guide.txt:1"
    assert 0.4 <= row["score"] <= 1


def test_find_says_when_nothing_fits(med, guide):
    result = med("kb", "find", "guide", "怎么学好英语")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing fits" in result.stderr
    assert json.loads(med("kb", "find", "guide", "怎么学好英语", "--json").stdout) == []


def test_without_any_the_list_says_how_to_make_one(med):
    assert "med kb build" in med("kb", "list").stderr
    assert json.loads(med("kb", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("kb", "find", "giude", "x"), "did you mean 'guide'?"),
        (("kb", "find", "guide", "x", "--limit", 0), "--limit"),
        (("kb", "find", "guide", " "), "the question is empty"),
        (("kb", "build"), "SOURCE"),
        (("kb", "build", "guide.txt", "--passage-length", 3), "the smallest value is 50"),
        (("chat", "med-tiny", "x", "--kb", "nothere"), "no knowledge base is called 'nothere'"),
        (("eval", "med-tiny", "--exam", "triage", "--kb", "nothere"), "no knowledge base is called 'nothere'"),
    ],
)
def test_what_is_wrong_is_a_usage_error(med, guide, cached_tiny, words, said):
    result = med(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout


class Doctor:
    def reply(self, messages, sampling):
        yield "少吃[1]，多喝水[2]。" if "资料" in messages[-1].content else "不知道。"


def talk(question, **settings):
    settings = Settings(model="med-tiny", kb="guide", **settings)
    chat.talk(settings, question, as_json=False, speaker_of=lambda model, settings, report: Doctor())


def test_chat_shows_below_an_answer_what_it_rests_on(guide, capsys):
    capsys.readouterr()
    talk("高血压患者能吃咸菜吗")
    answer, below = capsys.readouterr().out.split("\n\n—— 资料依据 ——\n")
    assert answer == "少吃[1]，多喝水[2]。"
    assert "[1] “高血压患者每天食盐不超过5克，少吃咸菜。”（guide.txt:1）" in below
    assert "[2] 没有对应的资料" in below
    talk("怎么学好英语")
    assert capsys.readouterr().out.startswith("不知道。\n\n—— 资料依据 ——\n未找到依据")


def test_the_base_may_be_named_in_the_project_file(med, guide, cached_tiny, project):
    (project / "med.toml").write_text('[chat]\nkb = "guied"\n', "utf-8")
    assert "did you mean 'guide'?" in med("chat", "med-tiny", "高血压").stderr
    (project / "med.toml").write_text('[chat]\nkb = "guide"\n', "utf-8")
    assert med("chat", "med-tiny", "高血压", "--max-tokens", 4).exit_code == 0


@pytest.fixture
def asked(med, project):
    alpaca(project / "qa.jsonl", 30)
    assert med("data", "build", "qa.jsonl", "--test", 0.2).exit_code == 0
    return "qa"


def test_an_exam_with_a_knowledge_base_is_another_outcome(med, guide, asked, tiny_folder, project):
    words = ("eval", tiny_folder, "--exam", asked, "--limit", 2, "--max-tokens", 4, "--device", "cpu")
    assert med(*words).exit_code == 0
    result = med(*words, "--kb", "guide")
    assert result.exit_code == 0, result.stderr
    without, with_base = (
        json.loads(path.read_text("utf-8"))
        for path in sorted((project / "eval").glob("*.json"), key=lambda path: "+guide" in path.name)
    )
    assert (without["settings"]["kb"], with_base["settings"]["kb"]) == ("", "guide")
    assert with_base["model"] == f"{tiny_folder}+guide"
    assert without["identity"] != with_base["identity"]


def test_candidates_with_and_without_are_told_apart_and_compared(med, guide, asked, tiny_folder, project):
    words = ("eval", tiny_folder, "--exam", asked, "--limit", 2, "--max-tokens", 4, "--device", "cpu")
    assert med(*words).exit_code == 0
    assert med(*words, "--kb", "guide").exit_code == 0
    files = sorted((project / "eval").glob("*.json"))
    assert len(files) == 2
    assert med("eval", "--compare", *files, "--general", "").exit_code == 0


def test_a_base_that_was_built_from_other_files_is_another_candidate(med, guide, tiny_folder, project):
    first = candidates.describe(str(tiny_folder), "guide")
    assert first["kb"]["name"] == "guide"
    (project / "guide.txt").write_text("高血压患者少喝酒。\n", "utf-8")
    assert med("kb", "build", "guide.txt").exit_code == 0
    assert candidates.describe(str(tiny_folder), "guide") != first
    assert "kb" not in candidates.describe(str(tiny_folder))


def test_likelihoods_change_with_a_knowledge_base(guide, tiny_folder):
    def read(**given):
        candidate = candidates.open_candidate(str(tiny_folder), EvalSettings(device="cpu", **given), Silent())
        prompt = [Message(role="user", content="高血压患者能吃咸菜吗")]
        [[one]] = candidate.reader.likelihoods([prompt], [("能",)], lambda done: None)
        assert "资料依据" not in candidate.speaker.replies([prompt], Sampling(max_tokens=3), lambda done: None)[0]
        return one.total

    assert read() != read(kb="guide")


def test_answers_that_are_there_rest_on_nothing(med, guide, asked, project):
    (project / "answers.jsonl").write_text('{"id": "qa-1", "answer": "x"}\n', "utf-8")
    result = med("eval", "--answers", "answers.jsonl", "--exam", asked, "--kb", "guide")
    assert result.exit_code == 2
    assert "--kb has no use for answers that are there already" in result.stderr


WITHOUT_BM25S = """
import sys
sys.modules["bm25s"] = None
from medcli.cli.app import main
main(sys.argv[1:])
"""


def test_without_bm25s_one_line_says_how_to_install_it(guide, project):
    for words in (["kb", "build", "guide.txt", "--name", "new"], ["kb", "find", "guide", "高血压"]):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_BM25S, *words], capture_output=True, text=True, check=False, cwd=project
        )
        assert done.returncode == 2
        assert 'pip install "medcli[kb]"' in done.stderr
        assert not done.stdout
