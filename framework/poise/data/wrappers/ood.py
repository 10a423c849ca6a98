"""Pictures of other things, to see whether a model knows that it does not know them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from poise import registry
from poise.data.dataset import Arrays, Splits, names_a_set
from poise.data.pictures import grey
from poise.data.source import DataSource, OtherThings
from poise.data.stored import changed
from poise.data.wrapper import CHANNELS, Wrapper, refuse_empty
from poise.errors import UserError


class Ood(Wrapper):
    """OOD sets: those that other sources have, else their test splits, brought to the size and channels of the data.

    An OOD set of a source keeps its name (of x_ood_<name> in an npz file it is <name>). A test split is called like its
    source, of npz and image_folder like the file or folder where that is a name for a set; `ood@far` with one source
    calls it `far`.

    An npz file needs to hold nothing but x_ood_<name>, or x_test; an image_folder nothing but pictures in `ood/NAME`,
    else in `test`, else at any depth, read in the size of the data where that is square. Other pictures are resized as
    a whole, bilinearly and smoothed where they get smaller; grey ones are given three channels, and coloured ones their
    brightness where the data are grey. What is no picture has to have the shape of the data. Classes of other things
    mean nothing here: every label is -1.

    Args:
        sources: names of data.
        path: parameter of those sources that have one; give sources that lie in different places by `ood@a,ood@b`.
    """

    adds: ClassVar[bool] = True
    named: ClassVar[Mapping[str, str]] = {"sources": "data"}

    def __init__(self, sources: tuple[str, ...], path: str | None = None) -> None:
        self.sources = sources
        self.path = path

    def wrap(self, splits: Splits, seed: int) -> Splits:
        """The splits with further OOD sets.

        Raises:
            UserError: a source that is not there, cannot be loaded or has nothing to take; two sets of one name; inputs
                of another kind than the data's.
        """
        refuse_empty(self.said("sources"), self.sources)
        found = dict(splits.ood)
        for source in self.sources:
            said = f"{self.said('sources')}={source}"
            for name, things in self._loaded(said, source, splits, seed).items():
                if name in found:
                    raise UserError(
                        f"{said}: there is an OOD set {name!r} already: leave one of them out, or call a test split "
                        "otherwise, by an alias (ood@NAME)."
                    )
                found[name] = _matched(said, things, splits)
        return replace(splits, ood=found)

    def _loaded(self, said: str, source: str, splits: Splits, seed: int) -> dict[str, OtherThings]:
        """The sets of a source by the names that they get."""
        takes = registry.find("data", source).parameter("path")
        given: dict[str, Any] = {"path": self.path} if takes and self.path is not None else {}
        try:
            made: DataSource = registry.build("data", source, **given)
            sets = made.other_things(seed, splits.input_shape)
        except UserError as error:
            told = str(error).replace("data.path=", f"{self.said('path')}=")
            raise UserError(f"{said}: {told}") from error
        return {name or self._called(made, source): things for name, things in sets.items()}

    def _called(self, made: DataSource, source: str) -> str:
        """The name of its test split."""
        if len(self.sources) == 1 and self.alias not in ("", registry.name_of(self)):
            return self.alias
        return made.file_name if names_a_set(made.file_name) else source.rpartition(":")[2]


def _matched(said: str, things: OtherThings, splits: Splits) -> Arrays:
    """Other things as the data would have them."""
    x = things.x
    mine, theirs = splits.input_shape, tuple(x.shape[1:])
    if (things.kind, things.valid_range) != (splits.kind, splits.valid_range):
        raise UserError(f"{said} is {_described(things)}; the data are {_described(splits)}.")
    if theirs != mine:
        if splits.kind != "image" or {len(mine), len(theirs)} != {3} or not {mine[0], theirs[0]} <= {*CHANNELS}:
            raise UserError(
                f"{said} has inputs of shape {_shape(theirs)}, the data of {_shape(mine)}: only pictures of 1 or 3 "
                "channels can be matched."
            )
        x = changed(x, lambda pictures, positions: matched(pictures, mine))
    return Arrays(x, torch.full((len(x),), -1))


def matched(x: Shaped[Tensor, "B channels height width"], shape: tuple[int, ...]) -> Shaped[Tensor, "B C H W"]:
    """Pictures of 1 or 3 channels, uint8 or floating point, in another shape [C, H, W]."""
    seen = x.float() / 255 if x.dtype == torch.uint8 else x
    seen = grey(seen) if shape[0] == 1 else seen.expand(-1, shape[0], -1, -1)
    if seen.shape[2:] != shape[1:]:
        seen = F.interpolate(seen, shape[1:], mode="bilinear", antialias=True).clamp(0, 1)
    return (255 * seen).round().to(torch.uint8) if x.dtype == torch.uint8 else seen


def _described(inputs: OtherThings | Splits) -> str:
    low, high = inputs.valid_range or (None, None)
    return f"{inputs.kind} {'without a valid range' if low is None else f'in {low:g} to {high:g}'}"


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
