import torch

from poise.own_dtype import in_own_dtype


def test_a_tensor_moves_and_keeps_its_dtype() -> None:
    there = in_own_dtype(lambda tensor: tensor.to("meta", torch.bfloat16))(torch.ones(3, dtype=torch.float64))
    assert there.is_meta
    assert there.dtype == torch.float64


def test_what_is_not_cast_is_as_the_move_gives_it() -> None:
    shared = torch.ones(3)
    assert in_own_dtype(lambda tensor: tensor)(shared) is shared
