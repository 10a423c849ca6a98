import os
import time

import pytest
import torch
import torch.distributed

from ranks import Pair, RankError


def doubled_rank(factor: int) -> tuple[int, torch.Tensor]:
    total = torch.tensor([float(torch.distributed.get_rank() + 1)])
    torch.distributed.all_reduce(total)
    return torch.distributed.get_rank() * factor, total


def breaks_on_one_rank() -> None:
    if torch.distributed.get_rank() == 1:
        raise ValueError("rank one has had enough")


def dies() -> None:
    os._exit(7)


def sleeps_on_one_rank() -> None:
    if torch.distributed.get_rank() == 0:
        print("about to sleep", flush=True)
        time.sleep(60)


def wrong_shape() -> str:
    import jaxtyping

    from poise.distributed import Ranks

    try:
        Ranks().gather("no tensor")  # type: ignore[arg-type]
    except jaxtyping.TypeCheckError as error:
        return type(error).__name__
    return "unchecked"


def test_results_come_back_from_every_rank(pair: Pair) -> None:
    (first, total), (second, same) = pair.run(doubled_rank, 5)
    assert (first, second) == (0, 5)
    assert total.item() == same.item() == 3.0


def test_shapes_are_checked_in_the_ranks_too(pair: Pair) -> None:
    assert pair.run(wrong_shape) == ["TypeCheckError"] * 2


def test_failures_carry_the_ranks_own_words_and_the_pair_recovers(pair: Pair) -> None:
    with pytest.raises(RankError, match="rank 1: Traceback[\\s\\S]*rank one has had enough"):
        pair.run(breaks_on_one_rank)
    with pytest.raises(RankError, match="exit code 7"):
        pair.run(dies)
    with pytest.raises(RankError, match="gave no answer[\\s\\S]*about to sleep[\\s\\S]*sleeps_on_one_rank"):
        pair.run(sleeps_on_one_rank, timeout=2.0)
    assert pair.run(doubled_rank, 1)[1][0] == 1
