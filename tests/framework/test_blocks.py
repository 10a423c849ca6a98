import torch

from poise.blocks import FILLING, block_size


def test_a_processor_works_in_its_cache_and_an_accelerator_is_filled() -> None:
    assert block_size(torch.device("cpu"), 100) == 100
    assert block_size(torch.device("cuda", 1), 100) == block_size(torch.device("meta"), 100) == FILLING
