"""What is done to data before a run sees them."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from poise import registry
from poise.data.dataset import Splits
from poise.errors import UserError

CHANNELS = (1, 3)  # of pictures, grey or red, green and blue


class Wrapper:
    """Base of everything that may follow the source in `data=source,wrapper,…`.

    Parameters are constructor arguments, kept under their own names.

    Attributes:
        named: parameters that list names of the registry, and of which kind: they are looked up before anything is
            built.
        adds: it adds shifts and OOD sets and leaves all else as it is, so that a finished run may be evaluated on them.
        alias: what the config calls it; "" where no config names it.
    """

    named: ClassVar[Mapping[str, str]] = {}
    adds: ClassVar[bool] = False
    alias: str = ""

    def wrap(self, splits: Splits, seed: int) -> Splits:
        """Splits made of others, which stay as they are; depends on them, the parameters and the seed alone.

        Args:
            splits: the data.
            seed: keyed by the run's and by the wrapper's alias, so that two of one name draw differently.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it does to data: define `wrap`.")

    def said(self, parameter: str) -> str:
        """A parameter as the user writes it, such as `data.ood.sources`, for messages."""
        return f"data.{self.alias}.{parameter}" if self.alias else f"{registry.name_of(self)}.{parameter}"


def refuse_untrained(splits: Splits, said: str) -> None:
    """Wrappers that change the training split alone have nothing to do where there is none.

    Args:
        splits: the data.
        said: the wrapper, for the message.

    Raises:
        UserError: data without training examples.
    """
    if not splits.trains:
        raise UserError(f"{said} changes training examples, of which these data have none: leave it out.")


def refuse_no_pictures(splits: Splits, said: str) -> None:
    """Wrappers that change how pictures look need pictures.

    Args:
        splits: the data.
        said: the wrapper, for the message.

    Raises:
        UserError: inputs that are not [1, H, W] or [3, H, W].
    """
    if splits.kind != "image" or len(splits.input_shape) != 3 or splits.input_shape[0] not in CHANNELS:
        given = " × ".join(map(str, splits.input_shape))
        raise UserError(f"{said} is for pictures of 1 or 3 channels; these data are {splits.kind} of shape {given}.")


def refuse_empty(said: str, given: Sequence[object]) -> None:
    """A wrapper whose list is empty would do nothing.

    Args:
        said: the parameter, for the message.
        given: its value.

    Raises:
        UserError: it is empty.
    """
    if not given:
        raise UserError(f"{said} is empty: name one or more, or leave the wrapper out.")
