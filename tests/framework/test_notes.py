"""What is noted for the log until somebody reads it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.distributed import Ranks
from poise.notes import Notes

CPU = torch.device("cpu")


def read(notes: Notes) -> dict[str, float]:
    return {name: float(value) for name, value in notes.read(CPU, Ranks()).items()}


@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(1, 50)), min_size=1, max_size=6))
def test_a_steps_value_is_the_mean_over_its_micro_batches_by_examples(parts: list[tuple[float, int]]) -> None:
    notes = Notes()
    notes.keep({"loss": 1000.0})  # of a step before, which nobody has read
    notes.end_batch(7, first=True)
    for number, (value, examples) in enumerate(parts):
        notes.keep({"loss": 1000.0})  # said over in the same micro-batch
        notes.keep({"loss": torch.tensor([value - 1, value + 1], dtype=torch.float64)})
        notes.end_batch(examples, first=number == 0)
    mean = sum(value * examples for value, examples in parts) / sum(examples for _, examples in parts)
    assert read(notes) == {"loss": pytest.approx(mean, abs=1e-12)}
    assert read(notes) == {}


def test_a_mean_is_over_the_micro_batches_that_note_a_name() -> None:
    notes = Notes()
    notes.keep({"rare": 5.0})
    notes.end_batch(4, first=True)
    notes.end_batch(4, first=True)
    for value in (1.0, 2.0):
        notes.keep({"rare": value})
        notes.end_batch(4, first=False)
    assert read(notes) == {"rare": 1.5}


def test_between_steps_the_last_holds() -> None:
    notes = Notes()
    for value in (1.0, 2.0, 3.0):
        notes.keep({"said": value})
        notes.end_batch(4, first=True)
        notes.keep({"said": 10 * value})
    assert read(notes) == {"said": 30.0}


def test_what_is_kept_between_two_steps_is_taken_up() -> None:
    notes, resumed = Notes(), Notes()
    notes.keep({"mean": 0.1, "tensor": torch.tensor(0.1)})
    notes.end_batch(4, first=True)
    notes.keep({"said": 0.3})
    resumed.load(notes.state())
    assert resumed.read(CPU, Ranks()) == notes.read(CPU, Ranks())


def test_numbers_of_any_type_are_noted() -> None:
    notes = Notes()
    notes.keep({"counts": torch.tensor([1, 2]), "shares": torch.tensor([True, False, False, False])})
    assert read(notes) == {"counts": 1.5, "shares": 0.25}
