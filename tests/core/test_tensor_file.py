"""A safetensors file that is cut, empty or something else is told from a whole one."""

import pytest
import torch
from safetensors.torch import save_file

from medcli.core.tensor_file import damaged_in, fault_of


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"one": torch.zeros(8, 4), "two": torch.zeros(3)}, path)
    return path


def test_a_whole_file_has_no_fault(whole):
    assert fault_of(whole) == ""
    assert damaged_in(whole.parent) == []


@pytest.mark.parametrize("kept", [0, 5, 20, -1])
def test_a_cut_file_is_told(whole, kept):
    whole.write_bytes(whole.read_bytes()[:kept])
    assert damaged_in(whole.parent) == [(whole, fault_of(whole))]
    assert fault_of(whole)


def test_bytes_too_many_are_told(whole):
    size = whole.stat().st_size
    with whole.open("ab") as file:
        file.write(b"\0")
    assert fault_of(whole) == f"it has {size + 1:,} bytes in place of {size:,}"


@pytest.mark.parametrize("header", [b"no json!", b"[1, 2, 3]", b'{"a": 1}'])
def test_another_header_is_told(tmp_path, header):
    path = tmp_path / "other.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert fault_of(path) == "its header cannot be read"


def test_a_git_lfs_pointer_is_told(tmp_path):
    path = tmp_path / "pointer.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "utf-8")
    assert fault_of(path) == "it has no header of tensors, or is cut within it"
