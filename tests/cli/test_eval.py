"""`med eval` with the engine's two functions replaced by ones that need no model."""

import json
import math
import sys
from types import ModuleType

import pytest

from medcli.core.atomic import sha256_of
from tests.conftest import shared
from tests.evaluation import FakeSpeaker, conversation, documents, facts, write_dataset


@pytest.fixture
def engine(monkeypatch):
    """A speaker's and a reader's module without torch; holds what they were given."""
    given = {}
    speaker, reader = ModuleType("speaker"), ModuleType("reader")

    def open_speaker(ref, *, device, report):
        given.update(ref=ref, device=device)
        return FakeSpeaker(silent_on="糖尿病")

    class LocalReader:
        def __init__(self, loaded):
            given.update(loaded=loaded)

        def perplexity(self, conversations, report):
            given.update(conversations=conversations)
            return math.exp(1.5), 1234, [1.0, 1.5, 2.0]

    speaker.open_speaker = open_speaker
    reader.LocalReader = LocalReader
    monkeypatch.setitem(sys.modules, "medcli.engine.speaker", speaker)
    monkeypatch.setitem(sys.modules, "medcli.engine.reader", reader)
    return given


def test_prints_a_table_and_where_the_answers_are(med, project, engine):
    write_dataset("facts", test=facts())
    result = med("eval", "med-tiny", "--dataset", "facts", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    assert rows["exact"][0] == "66.67"
    assert rows["exact"][-2:] == ["3", "answers"]
    assert rows["perplexity"][0] == "4.48"
    assert rows["perplexity"][-2:] == ["1,234", "tokens"]
    assert "eval/med-tiny-facts-test.json" in result.stdout
    assert "for study and research only" in result.stderr
    assert "for study and research only" not in result.stdout
    assert "1 of 3 answers are empty" in result.stderr
    assert engine["ref"].base == "med-tiny"
    assert engine["device"] == "cpu"
    assert engine["loaded"] == FakeSpeaker.loaded
    assert len(engine["conversations"]) == 3


def test_json_is_all_there_is_on_stdout(med, project, engine):
    write_dataset("facts", test=facts())
    result = med("eval", "med-tiny", "--dataset", "facts", "--json", "--quiet")
    shown = json.loads(result.stdout)
    assert (shown["scores"][0]["metric"], shown["scores"][0]["count"]) == ("exact", 3)
    assert shown["scores"][0]["value"] == pytest.approx(2 / 3)
    assert shown["outcomes"] == {"answered": 2, "empty": 1, "unparsed": 0, "refused": 0}
    assert json.loads((project / shown["file"]).read_text("utf-8"))["scores"] == shown["scores"]
    assert result.stderr == ""


def test_plan_answers_nothing(med, project, engine):
    write_dataset("facts", test=facts())
    (project / "med.toml").write_text("[eval]\nmax_tokens = 64\n")
    result = med("eval", "med-tiny", "--dataset", "facts", "--limit", "2", "--plan")
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    assert rows["max_tokens"] == ["64", "med.toml"]
    assert rows["limit"] == ["2", "flag"]
    assert "would sit facts-test: 2 items" in result.stdout
    assert not engine
    assert not (project / "eval").exists()


def test_plan_as_json(med, project):
    write_dataset("facts", test=facts())
    plan = json.loads(med("eval", "med-tiny", "--dataset", "facts", "--plan", "--json").stdout)
    assert (plan["exams"][0]["exam"], plan["exams"][0]["items"]) == ("facts-test", 3)
    assert plan["settings"]["dataset"] == {"value": "facts", "origin": "flag"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["med-tiny"], 2, "no exam is named"),
        (["med-tiny", "--exam", "fact"], 2, "did you mean 'facts'?"),
        (["med-tiny", "--exam", "triag"], 2, "did you mean 'triage'?"),
        (["med-tiny", "--exam", "choice"], 2, "needs a data set"),
        (["med-tiny", "--exam", "general", "--dataset", "facts"], 2, "questions of its own"),
        (["med-tiny", "--dataset", "facts", "--min", "exact"], 2, "'exact' is no bound"),
        (["med-tiny", "--dataset", "facts", "--gold", "x.json"], 2, "--gold holds only right answers"),
        (["med-tiny", "--dataset", "facts", "--answers", "x.json"], 2, "in place of MODEL"),
        (["med-tiny", "--dataset", "facts", "--compare"], 2, "--compare takes two models"),
        (["med-tiny", "--exam", "dialogue", "--judge", "med-tyni"], 4, "did you mean 'med-tiny'?"),
        (["http://localhost:1/v1", "--dataset", "facts"], 2, "does not say which model"),
        (["med-tiny", "--dataset", "fact"], 2, "did you mean 'facts'?"),
        (["med-tiny", "--dataset", "facts", "--split", "tset"], 2, "did you mean 'test'?"),
        (["med-tiny", "--dataset", "facts", "--split", "valid"], 3, "no conversation in valid"),
        (["med-tiny", "--dataset", "facts", "--limit", "0"], 2, "--limit: 0 is too small"),
        (["med-tiny", "--dataset", "texts"], 3, "needs conversations"),
        (["med-tyni", "--dataset", "facts"], 4, "did you mean 'med-tiny'?"),
        (["med-tyni", "--dataset", "facts", "--plan"], 4, "did you mean 'med-tiny'?"),
        (["--dataset", "facts"], 2, "no MODEL is named"),
    ],
)
def test_errors_say_how_to_mend_them(med, project, engine, words, code, said):
    write_dataset("facts", test=facts())
    write_dataset("texts", kind="document", test=documents())
    result = med("eval", *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
    assert not (project / "eval").exists()


def test_bounds_decide_the_exit_code_after_all_is_printed(med, project, engine):
    write_dataset("facts", test=facts())
    words = ("eval", "med-tiny", "--dataset", "facts", "--json", "--quiet")
    assert med(*words, "--min", "exact=0.6,rouge-l=0.5", "--max", "perplexity=5").exit_code == 0
    missed = med(*words, "--min", "exact=0.9", "--max", "facts-test:perplexity=2")
    assert missed.exit_code == 7
    assert "exact is 0.6667, and --min exact=0.9" in missed.stderr
    assert "perplexity is 4.482, and --max facts-test:perplexity=2" in missed.stderr
    assert json.loads(missed.stdout)["exam"] == "facts-test"
    unknown = med(*words, "--min", "exakt=0.9")
    assert unknown.exit_code == 2
    assert "did you mean 'exact'?" in unknown.stderr


def test_several_models_stand_side_by_side(med, project, engine, tiny_folder):
    write_dataset("facts", test=facts())
    result = med("eval", "med-tiny", tiny_folder, "--dataset", "facts")
    assert result.exit_code == 0, result.stderr
    assert "66.67 (" in next(line for line in result.stdout.splitlines() if line.startswith("exact"))
    assert result.stdout.count("every answer: ") == 2
    shown = json.loads(med("eval", "med-tiny", tiny_folder, "--dataset", "facts", "--json").stdout)
    assert [one["model"] for one in shown] == ["med-tiny", str(tiny_folder)]


def test_answers_that_are_there_are_marked_without_a_model(med, project):
    write_dataset("facts", test=facts())
    rows = [{"id": f"c{number}", "predict": "多喝水，注意休息。"} for number in range(3)]
    (project / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    result = med("eval", "--answers", "answers.jsonl", "--exam", "facts", "--json")
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["model"] == "answers.jsonl"
    assert {score["metric"]: score["value"] for score in shown["scores"]}["exact"] == pytest.approx(1 / 3)


def test_published_figures_come_out_of_the_command(med):
    folder = shared("cmb/caregpt_baichuan13b_sft_merge/result.json").parent
    gold = shared("cmb/CMB-test-choice-answer.old.json")
    result = med("eval", "--exam", "cmb", "--gold", gold, "--answers", folder / "output.json", "--json")
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    published = json.loads((folder / "result.json").read_text("utf-8"))
    assert {name: shown[name] for name in published} == published
    scores = shared("disc_medllm/gpt4_scores/cmb-clin/result_gpt-3.5-turbo_cmb-clin.jsonl")
    judged = json.loads(med("eval", "--exam", "dialogue", "--scores", scores, "--json").stdout)
    assert [round(score["value"], 2) for score in judged["scores"]] == [4.30, 4.53, 4.55, 5.00]
    shown = med("eval", "--exam", "dialogue", "--scores", scores).stdout
    assert "4.53" in next(line for line in shown.splitlines() if line.startswith("accuracy"))


def test_two_models_are_compared_and_what_was_sat_is_not_sat_again(med, project, engine, tiny_folder):
    write_dataset("facts", test=facts())
    words = ("eval", "--compare", "med-tiny", tiny_folder, "--dataset", "facts", "--general", "")
    result = med(*words)
    assert result.exit_code == 0, result.stderr
    assert "as good on 3" in result.stdout
    report = next(project.glob("eval/*against*/report.html"))
    assert str(report) in result.stdout
    engine.clear()
    again = med(*words, "--json")
    assert again.exit_code == 0, again.stderr
    assert "has sat facts-test before" in again.stderr
    assert engine == {}
    assert json.loads(again.stdout)["exams"][0]["exam"] == "facts-test"
    files = sorted(map(str, project.glob("eval/*.json")))
    assert med("eval", "--compare", *files).exit_code == 0


def test_help_names_every_option(med):
    shown = med("eval", "--help").stdout
    for flag in (
        "--dataset",
        "--split",
        "--limit",
        "--max-tokens",
        "--temperature",
        "--top-p",
        "--seed",
        "--system",
    ):
        assert flag in shown
    for flag in ("--device", "--json", "--plan"):
        assert flag in shown


def test_an_exam_that_was_trained_on_is_refused_or_marked(med, project, engine):
    ulcer = "患者反复上腹部疼痛三年，近来加重，夜间明显，进食后缓解，最可能的诊断是哪一种疾病？"
    asked = [
        conversation(0, ulcer, "十二指肠溃疡。"),
        conversation(1, "踝关节扭伤后的第一天应该冷敷还是热敷呢？", "冷敷。"),
    ]
    write_dataset("asked", test=asked)
    folder = write_dataset("learnt", train=[conversation(9, f"请问{ulcer}", "十二指肠溃疡。")])
    run = project / "runs" / "one"
    run.mkdir(parents=True)
    sha = sha256_of(folder / "train.jsonl")
    data = f'[data.learnt]\npath = "{folder.resolve()}"\nsha256 = "{sha}"\nrecords = 1\n'
    (run / "run.toml").write_text(f'[model]\nbase = "med-tiny"\n[settings]\n{data}', "utf-8")
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    refused = med("eval", "one", "--exam", "asked", "--json")
    assert refused.exit_code == 3
    assert "one was trained on 1 of the 2 questions of asked-test: c0 ↔ learnt: c9" in refused.stderr
    assert refused.stdout == ""
    marked = med("eval", "one", "--exam", "asked", "--json", "--allow-leak")
    assert marked.exit_code == 0, marked.stderr
    shown = json.loads(marked.stdout)
    assert shown["leak"]["leaked"] == 1
    counts = {score["metric"]: score["count"] for score in shown["scores"]}
    assert (counts["rouge-l"], counts["rouge-l-unleaked"]) == (2, 1)


def test_exams_may_be_named_one_by_one(med, project):
    write_dataset("facts", test=facts())
    words = ("eval", "med-tiny", "--exam", "facts", "--exam", "triage,general", "--limit", 2, "--plan", "--json")
    plan = json.loads(med(*words).stdout)
    assert [row["exam"] for row in plan["exams"]] == ["facts-test", "triage", "general"]
    assert plan["settings"]["exam"]["value"] == ["facts", "triage", "general"]
