"""What is read ahead is what would have been read, when it is asked for."""

import threading
from collections.abc import Iterator

import pytest
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from poise.data.dataset import Arrays
from poise.data.loader import EvaluationLoader, TrainLoader
from poise.data.prefetch import AHEAD, ahead
from poise.data.sampler import EpochSampler
from poise.data.stored import Stored

X = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))


class _Watched(Stored):
    """A tensor's rows, and the thread that last read them."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(values.shape, values.dtype)
        self.values, self.reader = values, ""

    def read(self, positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
        self.reader = threading.current_thread().name
        return self.values[positions]


def _readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("poise-data")]


@pytest.mark.parametrize("count", [0, 1, AHEAD, AHEAD + 1, 20])
def test_everything_comes_in_order_and_no_thread_stays(count: int) -> None:
    assert list(ahead(lambda item: item * item, range(count))) == [item * item for item in range(count)]
    assert not _readers()


def test_what_is_asked_for_is_a_few_items_ahead_and_in_the_callers_thread() -> None:
    asked: list[str] = []

    def items() -> Iterator[int]:
        for item in range(20):
            asked.append(threading.current_thread().name)
            yield item

    reading = ahead(lambda item: threading.current_thread().name, items())
    assert next(reading).startswith("poise-data")
    assert asked == [threading.current_thread().name] * (AHEAD + 1)
    reading.close()  # type: ignore[attr-defined]  # given up, as by a trainer that stops inside an epoch
    assert not _readers()


def test_what_a_read_raises_comes_in_its_place() -> None:
    reading = ahead(lambda item: 1 // (3 - item), range(10))
    assert [next(reading) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(reading)
    assert not _readers()


def test_loaders_read_stored_inputs_ahead_and_give_what_tensors_give() -> None:
    label, stream = torch.arange(40) % 2, Arrays(X[:7] + 1, torch.arange(7) % 2)
    watched = _Watched(X)
    found = []
    for x in (X, watched):
        sampler = EpochSampler(40, batch_size=8, seed=3, position=lambda: (1, 2), streams={"more": 7})
        training = TrainLoader(Arrays(x, label), sampler, {"more": stream})
        found.append([list(training), list(EvaluationLoader(Arrays(x, label), 16))])
    (train, test), (train_stored, test_stored) = found
    assert [len(train), len(test)] == [3, 3]
    for batch, of_stored in zip(train + test, train_stored + test_stored, strict=True):
        assert batch.keys() == of_stored.keys()
        more, more_stored = batch.pop("streams", {}), of_stored.pop("streams", {})
        assert all(torch.equal(batch[name], of_stored[name]) for name in batch)
        assert all(torch.equal(more[name]["x"], more_stored[name]["x"]) for name in more)
    assert watched.reader.startswith("poise-data")
    assert not _readers()
