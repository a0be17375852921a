"""Metrics keep their cache away from the user's."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_its_own(tmp_path_factory):
    """`MED_CACHE` for all tests here, so that jieba's dictionary is read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
