"""Safetensors files that are written tensor by tensor."""

import torch
from safetensors.torch import save_file

from raydisc.parallel.rank import ALONE
from raydisc.parallel.tensor_file import TensorFile
from raydisc.tensors.lazy_state import PartState

TENSORS = {
    "b": torch.arange(6.0).view(2, 3),
    "half": torch.ones(3, 2, dtype=torch.bfloat16),
    "a": torch.arange(4.0).view(2, 2).t(),
    "scalar": torch.tensor(3),
    "none": torch.empty(0, 4),
    "bytes": torch.arange(5, dtype=torch.uint8),
}


def test_a_file_has_the_bytes_that_the_library_writes(tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, tmp_path / "wanted")
    TensorFile(TENSORS, ALONE)(tmp_path / "found")
    assert (tmp_path / "found").read_bytes() == (tmp_path / "wanted").read_bytes()


def test_weights_in_part_are_written_as_they_are_taken(tmp_path):
    takings = {"b": [lambda b: b[:, [2, 0]], lambda b: b[:1]], "a": [lambda a: a[:1]]}
    found = PartState(TENSORS, takings)
    assert found["b"].tolist() == [[2.0, 0.0]]
    assert found["half"] is TENSORS["half"]
    TensorFile(found, ALONE)(tmp_path / "found")
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, tmp_path / "wanted")
    assert (tmp_path / "found").read_bytes() == (tmp_path / "wanted").read_bytes()
