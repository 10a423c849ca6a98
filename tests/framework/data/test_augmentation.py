"""Augmentation in the step: keyed by block, the same on any number of ranks, and again for each view."""

import torch
from torch import nn

from poise.batch import Batch
from poise.data.augmentations.flip import Flip
from poise.data.keys import generator
from poise.distributed import Ranks
from poise.module import TrainingModule

X = torch.rand(16, 1, 4, 6, generator=generator("augmentation"))


def module(augment: dict[str, Flip] | None) -> TrainingModule:
    return TrainingModule(nn.Sequential(nn.Flatten(), nn.Linear(24, 2)), num_classes=2, block=4, augment=augment)


def augmented(made: TrainingModule, x: torch.Tensor, first_block: int = 0, **streams: Batch) -> Batch:
    made.prepare(1)
    step = made.detached_step(Ranks()).replace(first_block=first_block)
    return made.augmented(Batch.of(x, torch.zeros(len(x), dtype=torch.int64), 2, streams=streams), step)


def test_what_is_drawn_depends_on_the_block_and_not_on_who_has_it() -> None:
    made = module({"flip": Flip()})
    whole = augmented(made, X).x
    assert not whole.equal(X)
    assert not whole.equal(X.flip(3))
    assert torch.cat([augmented(made, X[:8]).x, augmented(made, X[8:], first_block=2).x]).equal(whole)


def test_a_view_is_another_copy_of_the_inputs_as_they_were() -> None:
    made = module({"flip": Flip()})
    batch = augmented(made, X)
    step = made.detached_step(Ranks())
    assert batch.raw is not None
    assert batch.raw.equal(X)
    view = step.bound("anybody").view(batch, "view")
    assert not view.equal(batch.x)
    either = view.flatten(1).eq(X.flatten(1)).all(1) | view.flatten(1).eq(X.flip(3).flatten(1)).all(1)
    assert either.all()
    assert step.bound("anybody").view(batch, "view").equal(view)
    assert not step.bound("somebody_else").view(batch, "view").equal(view)


def test_streams_are_augmented_with_draws_of_their_own() -> None:
    made = module({"flip": Flip()})
    batch = augmented(made, X, unlabelled=Batch.of(X, torch.zeros(16, dtype=torch.int64), 2))
    stream = batch.streams["unlabelled"]
    assert stream.raw is not None
    assert not stream.x.equal(X)
    assert not stream.x.equal(batch.x)


def test_without_augmentations_a_view_is_the_input_itself() -> None:
    made = module(None)
    batch = augmented(made, X)
    assert batch.raw is None
    assert batch.x.equal(X)
    assert made.detached_step(Ranks()).view(batch, "view") is batch.x


def test_two_of_one_kind_draw_by_their_aliases() -> None:
    made = module({"flip": Flip(), "again": Flip()})
    once, twice = augmented(module({"flip": Flip()}), X).x, augmented(made, X).x
    assert not once.equal(twice)
