"""What licences allow by their names, and where a model folder says its own."""

import pytest

from medcli.core.known_datasets import known_datasets
from medcli.core.licences import commercial_use, licence_of

NAMES = {
    "yes": ["Apache-2.0", "mit", "MIT", "BSD-3-Clause", "cc0-1.0", "CC-BY-4.0", "cc-by-sa-4.0", "GPL-3.0"],
    "no": [
        "CC-BY-NC-SA-4.0",
        "cc-by-nc-4.0",
        "MIT, academic use only",
        "research only",
        "Non-Commercial",
        "qwen-research",
    ],
    "unknown": ["", "unknown", "other", "llama3", "gemma", "CC", "mitigated"],
}


@pytest.mark.parametrize(("use", "licence"), [(use, name) for use, names in NAMES.items() for name in names])
def test_a_name_says_what_is_allowed_or_nothing(use, licence):
    assert commercial_use(licence) == use


def test_no_name_allows_what_the_list_of_data_sets_forbids():
    assert [
        s.name for s in known_datasets().values() if s.commercial == "no" and commercial_use(s.licence) == "yes"
    ] == []


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# x\n", "apache-2.0"),
        ('---\nlicense: "MIT"\n---\n', "MIT"),
        ("---\nlicense: other\nlicense_name: qwen\n---\n", "qwen"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: [a]\n---\nlicense: mit\n", "unknown"),
        ("license: mit\n", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_folder_s_licence_is_in_the_front_matter(tmp_path, card, licence):
    (tmp_path / "README.md").write_text(card, "utf-8")
    assert licence_of(tmp_path) == licence


def test_a_folder_without_a_card_has_no_known_licence(tmp_path):
    assert licence_of(tmp_path) == "unknown"
