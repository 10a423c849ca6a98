"""Where data come from."""

from typing import ClassVar

from poise.data.dataset import Splits


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

    def stand_in(self) -> Splits | None:
        """Splits of the same sizes without contents, nothing read; None where only reading tells."""
        return None
