"""`med data convert` and `med data vocab` as they are typed."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from medcli.core.dataset_folder import SPLITS, open_dataset
from tests.conftest import RAW, shared
from tests.engine.test_vocabulary import corpus


@pytest.fixture
def built(med):
    assert med("data", "build", RAW / "messages/dialogues.jsonl", "--name", "talks").exit_code == 0
    return med


@pytest.fixture
def texts(project):
    path = project / "texts.txt"
    path.write_text("\n".join(corpus()) + "\n", "utf-8")
    return path


def test_convert_says_what_it_wrote(built, project):
    result = built("data", "convert", "talks", "--to", "openai")
    assert result.exit_code == 0
    kept = open_dataset("talks").manifest["counts"]["kept"]
    assert f"talks-openai: {kept} conversations (train" in result.stdout
    assert "licence unknown" in result.stdout
    shown = json.loads(built("data", "convert", "talks", "--to", "alpaca", "--out", "there", "--json").stdout)
    assert (shown["path"], shown["kind"], sum(shown["counts"].values())) == ("there", "conversation", kept)
    assert sorted(path.name for path in (project / "there").iterdir() if path.suffix == ".jsonl") == sorted(
        f"{split}.jsonl" for split in shown["counts"]
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("convert", "talks"), 2, "--to"),
        (("convert", "talk", "--to", "openai"), 2, "did you mean 'talks'?"),
        (("convert", "talks", "--to", "openia"), 2, "did you mean 'openai'?"),
        (("convert", "talks", "--to", "openai", "--out", "data/talks"), 2, "exists"),
        (("vocab", "talks"), 2, "--tokenizer is missing"),
        (("vocab", "talks", "--tokenizer", "nothing"), 4, "no model or run is called 'nothing'"),
        (("vocab", "talks", "--tokenizer", "x", "--out", "y"), 2, "--out and --model go with --extend N"),
        (("vocab", "talks", "--extend", 5, "--tokenizer", "x"), 2, "--out is missing"),
        (("vocab", "talks", "--extend", 5, "--tokenizer", "x,y", "--out", "z"), 2, "one tokenizer"),
        (("vocab", "talks", "--extend", 5, "--tokenizer", "x", "--out", "data"), 2, "exists"),
        (("vocab", "talks", "--extend", 5, "--tokenizer", "x", "--model", "x", "--out", "z"), 2, "leave one out"),
        (("vocab", "talks", "--extend", 0, "--tokenizer", "x", "--out", "z"), 2, "too small"),
        (("vocab", "no/such.txt", "--tokenizer", "x"), 3, "there is no such file"),
    ],
)
def test_messages_and_exit_codes(built, words, code, said):
    result = built("data", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_vocab_counts_each_split_for_each_tokenizer(built, tiny_folder, project):
    own = project / "own"
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(own)
    result = built("data", "vocab", "talks", "--tokenizer", f"{tiny_folder},own", "--json")
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    dataset = open_dataset("talks")
    for split in filter(dataset.count, SPLITS):
        said = [message.content for record in dataset.records(split) for message in record.messages]
        tokens = sum(len(tokenizer(text)["input_ids"]) for text in said)
        rows = [row for row in shown["measured"] if row["part"] == split]
        assert [row["tokenizer"] for row in rows] == [str(tiny_folder), "own"]
        for row in rows:
            assert (row["texts"], row["characters"], row["tokens"]) == (len(said), len("".join(said)), tokens)
            assert row["characters_per_token"] == pytest.approx(len("".join(said)) / tokens)
    dearest = [term["extra"] for term in shown["terms"] if term["tokenizer"] == "own"]
    assert dearest == sorted(dearest, reverse=True)
    assert all(term["extra"] == term["times"] * (len(term["pieces"]) - 1) for term in shown["terms"])
    table = built("data", "vocab", "talks", "--tokenizer", "own").stdout
    assert "the words that cost most" in table


def test_vocab_extends_a_model_that_loads(med, texts, tiny_folder, project):
    words = ("data", "vocab", texts, "--model", tiny_folder, "--extend", 50, "--out", "larger")
    result = med(*words)
    assert result.exit_code == 0, result.stderr
    assert "larger: 800 + 50 tokens" in result.stdout
    tokenizer = AutoTokenizer.from_pretrained(project / "larger")
    model = AutoModelForCausalLM.from_pretrained(project / "larger")
    assert len(tokenizer) == model.get_input_embeddings().num_embeddings == 850
    assert tokenizer.chat_template
    assert max(tokenizer("心肌梗死")["input_ids"]) >= 800
    told = json.loads((project / "larger/vocabulary.json").read_text("utf-8"))
    assert told["gain"] == pytest.approx(1 - told["held_out"]["after"]["tokens"] / told["held_out"]["before"]["tokens"])
    assert told["gain"] > 0.3
    assert not list((project / "larger").glob("*.bin"))


def test_vocab_extends_a_tokenizer_alone(med, texts, project):
    folder = shared("tokenizers/minimind")
    result = med("data", "vocab", texts, "--tokenizer", folder, "--extend", 30, "--out", "larger", "--json")
    shown = json.loads(result.stdout)
    assert (shown["size_before"], shown["size_after"], shown["path"]) == (6400, 6430, "larger")
    assert sorted(path.suffix for path in (project / "larger").iterdir()) == [".jinja", ".json", ".json", ".json"]


def test_too_little_gain_is_refused_unless_accepted(med, texts, tiny_folder, project):
    words = ("data", "vocab", texts, "--model", tiny_folder, "--extend", 1, "--out", "larger", "--min-gain", 0.2)
    result = med(*words)
    assert result.exit_code == 3
    assert "of the tokens of held-out text, less than 20.0%" in result.stderr
    assert [path.name for path in project.iterdir()] == ["texts.txt"]
    assert med(*words[:-1], 0).exit_code == 0
    assert (project / "larger/model.safetensors").is_file()


def test_text_that_teaches_nothing_is_told(med, project, tiny_folder):
    (project / "english.txt").write_text("no Chinese here\n" * 3 + "at all\n", "utf-8")
    result = med("data", "vocab", "english.txt", "--tokenizer", tiny_folder, "--extend", 5, "--out", "larger")
    assert result.exit_code == 3
    assert "too little Chinese text" in result.stderr


def test_a_model_without_tokenizer_json_is_refused(med, texts, project):
    pytest.importorskip("sentencepiece")
    folder = shared("tokenizers/chatglm3")
    words = ("data", "vocab", texts, "--extend", 20, "--out", "larger")
    result = med(*words, "--model", folder)
    assert result.exit_code == 4
    assert "so no model can be loaded with it" in result.stderr
    assert med(*words, "--tokenizer", folder).exit_code == 0
    assert {path.name for path in (project / "larger").iterdir()} == {"tokenizer.model", "vocabulary.json"}
