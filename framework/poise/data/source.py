"""Where data come from."""

from poise.data.dataset import Splits


class DataSource:
    """Base of everything that `data=` can name.

    Parameters are constructor arguments, kept under their own names. Loading depends on them and the seed
    alone, so that every rank and machine gets the same splits.
    """

    def load(self, seed: int) -> Splits:
        """The data, split and checked."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to load its data: define `load`.")
