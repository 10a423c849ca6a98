"""Where data come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from poise.data.dataset import Splits
from poise.data.stored import Inputs


@dataclass(frozen=True)
class OtherThings:
    """Inputs of things that are none of some data's classes.

    Args:
        x: [N, *input], as of `Arrays`.
        kind: of the inputs, as of `Splits`.
        valid_range: what they may be, as of `Splits`.
    """

    x: Inputs
    kind: str
    valid_range: tuple[float, float] | None


class DataSource:
    """Base of everything that `data=` can name.

    Parameters are constructor arguments, kept under their own names. Loading depends on them and the seed
    alone, so that every rank and machine gets the same splits.

    Attributes:
        files: parameters that name a file or directory, looked for before anything is built.
        folders: those of them that name a directory.
        valid_range: of the inputs, where it is known before they are read.
        augment: names of the augmentations that training on these data takes where nothing else is said.
        published: classes, and examples of the official training and test sets, where they are known before anything
            is read: `stand_in` then gives splits.
    """

    files: ClassVar[frozenset[str]] = frozenset()
    folders: ClassVar[frozenset[str]] = frozenset()
    valid_range: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    augment: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[tuple[int, int, int] | None] = None

    def load(self, seed: int) -> Splits:
        """The data, split and checked."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to load its data: define `load`.")

    @property
    def file_name(self) -> str:
        """Of the file or folder that anybody's data lie in, by which they are told apart; "" for data with a name."""
        return ""

    def other_things(self, seed: int, input_shape: tuple[int, ...]) -> Mapping[str, OtherThings]:
        """What the source has for other data to be told from: its OOD sets by name, else its test split, as "".

        Args:
            seed: as of `load`.
            input_shape: of the other data, for sources that read their inputs in any size.
        """
        splits = self.load(seed)
        sets = splits.ood or {"": splits.test}
        return {name: OtherThings(data.x, splits.kind, splits.valid_range) for name, data in sets.items()}

    def stand_in(self) -> Splits | None:
        """Splits of the same sizes without contents, nothing read; None where only reading tells."""
        return None
