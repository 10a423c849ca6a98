"""How much memory live tensors hold: a reading that two moments of one program can be compared by."""

import gc

import torch


def live_bytes() -> int:
    """Bytes of all tensors that are alive, each storage once."""
    storages = {}
    for each in gc.get_objects():
        # never a proxy, whose class is made up, nor what has no storage, such as a sparse one of another test
        if type(each) is torch.Tensor and each.layout == torch.strided:
            storage = each.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
