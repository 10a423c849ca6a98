"""Wrappers on each other, on inputs that are not in memory, and the same everywhere."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from poise import registry
from poise.data.dataset import Arrays, Splits
from poise.data.stored import Stored
from poise.data.wrapper import Wrapper
from poise.tracking.inputs import digest
from small_runs import splits

PARAMETERS = {
    "corruptions": {"kinds": ("impulse_noise", "contrast")},
    "label_noise": {"rate": 0.25},
    "long_tail": {"factor": 3.0},
    "ood": {"sources": ("colored_digits",)},
    "step_imbalance": {"factor": 2.0},
    "subset": {"fraction": 0.5},
}
NAMES = sorted(registry.records("wrapper"))


def wrapper(name: str) -> Wrapper:
    made: Wrapper = registry.build("wrapper", name, **PARAMETERS.get(name, {}))
    return made


class Watched(Stored):
    """A tensor as stored inputs that say which rows were read."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x.shape, x.dtype)
        self.x, self.seen = x, 0

    def read(self, positions: Tensor) -> Tensor:
        self.seen += len(positions)
        return self.x[positions]


def pictures() -> Splits:
    """The small data in 8 bits, of which no value need be looked at."""
    return splits(
        **{
            name: Arrays((255 * split.x).to(torch.uint8), split.label, split.group)
            for name, split in splits().main.items()
        }
    )


def stored() -> tuple[Splits, list[Watched]]:
    """The same, not in memory."""
    inputs = {name: Watched(split.x) for name, split in pictures().main.items()}
    made = {name: Arrays(inputs[name], split.label, split.group) for name, split in pictures().main.items()}
    return splits(**made), list(inputs.values())


def everything(data: Splits) -> dict[str, Arrays]:
    return {**data.main, **data.further}


def assert_alike(one: Splits, other: Splits) -> None:
    assert list(everything(one)) == list(everything(other))
    for name, split in everything(one).items():
        mine, theirs = (s.fetch(torch.arange(len(split))) for s in (split, everything(other)[name]))
        assert mine.keys() == theirs.keys()
        for field, value in mine.items():
            torch.testing.assert_close(value, theirs[field], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_not_in_memory_are_wrapped_alike_and_left_there(name: str) -> None:
    outside, inputs = stored()
    made = wrapper(name).wrap(outside, 5)
    read = sum(x.seen for x in inputs)
    assert read <= 4 * len(inputs)  # a row here and there, for the shape of what comes out
    assert_alike(made, wrapper(name).wrap(pictures(), 5))


@pytest.mark.parametrize("names", list(permutations(NAMES, 2)), ids="+".join)
def test_any_two_follow_each_other(names: tuple[str, str]) -> None:
    data = splits()
    before = {name: split.fetch(torch.arange(len(split))) for name, split in data.main.items()}
    made = data
    for name in names:
        made = wrapper(name).wrap(made, 7)
    assert made.input_shape[0] == (3 if "spurious_color" in names else 1)
    assert bool(made.shifts) == ("corruptions" in names)
    assert all(split.x[:2].shape[1:] == made.input_shape for split in everything(made).values())
    again = data
    for name in names:
        again = wrapper(name).wrap(again, 7)
    assert_alike(made, again)
    for name, split in data.main.items():
        assert all(value.equal(before[name][field]) for field, value in split.fetch(torch.arange(len(split))).items())


GOLDEN = {
    "corruptions": ["5a965177", "b92acfd6"],
    "label_noise": ["f3dff8a1"],
    "long_tail": ["435bf45b"],
    "ood": ["7b5487eb"],
    "spurious_color": ["c4b60637", "1f0fab00", "40610f84", "f658fbc2"],
    "step_imbalance": ["744d6c9c"],
    "subset": ["209802f0"],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_data_on_every_machine(name: str) -> None:
    """Digests as they are elsewhere; of uint8, for the last bit of a float is a processor's own."""
    whole = registry.build("data", "digits").load(3)
    found = []
    for made in (wrapper(name).wrap(whole, 11), wrapper(name).wrap(whole, 11)):
        changed = {place: split for place, split in everything(made).items() if split is not whole.main.get(place)}
        levels = {place: (255 * split.x[:]).round().to(torch.uint8) for place, split in changed.items()}
        found.append([digest(Arrays(levels[place], split.label, split.group)) for place, split in changed.items()])
        torch.manual_seed(1)
    assert found == [GOLDEN[name]] * 2
