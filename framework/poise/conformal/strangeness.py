"""How strange each label would be for an example, by the probabilities of a model."""

from jaxtyping import Float, Int
from torch import Tensor

from poise.data.checks import check_tensor
from poise.errors import UserError
from poise.examples import check_logits, refuse


def lac(logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """LAC, by -log p of each label, float64: the smallest sets on average, some of them empty.

    Sadinle, Lei, Wasserman: Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, 2019, arXiv 1609.00451,
    whose 1 - p gives the same sets, but is 1 for all that is less probable than a number's last bit.

    Raises:
        UserError: logits are no floats [N, C].
    """
    check_logits(logits, "lac")
    return -logits.double().log_softmax(-1)


def aps(logits: Float[Tensor, "N C"], u: Float[Tensor, " N"]) -> Float[Tensor, "N C"]:
    """APS, by the probability of all labels down to this one: larger sets for harder examples; in [0, 1], float64.

    Less a share `u` of the label's own. Romano, Sesia, Candès: Classification with Valid and Adaptive Coverage,
    2020, arXiv 2006.02544.

    Args:
        logits: of any model; of two labels that are as probable the lower one comes first.
        u: a random number for each example, uniform in [0, 1]; 0 for sets that are larger and not random.

    Raises:
        UserError: logits are no floats [N, C], or u is no floats [N] in [0, 1].
    """
    check_logits(logits, "aps")
    check_uniform(u, len(logits), "aps")
    before, own, _ = _ranked(logits)
    return before + (1 - u.double()[:, None]) * own


def raps(logits: Float[Tensor, "N C"], u: Float[Tensor, " N"], penalty: float, free: int) -> Float[Tensor, "N C"]:
    """RAPS: as APS, and a penalty for each label further down than the first few, which cuts a long tail off.

    Angelopoulos, Bates, Malik, Jordan: Uncertainty Sets for Image Classifiers using Conformal Prediction, 2021,
    arXiv 2009.14193.

    Args:
        logits: as of `aps`.
        u: as of `aps`.
        penalty: of each label, >= 0.
        free: how many labels have none, >= 0.

    Raises:
        UserError: as `aps`.
    """
    check_logits(logits, "raps")
    check_uniform(u, len(logits), "raps")
    before, own, place = _ranked(logits)
    return before + (1 - u.double()[:, None]) * own + penalty * (place - free).clamp(min=0).double()


def places(logits: Float[Tensor, "N C"]) -> Int[Tensor, "N C"]:
    """The place of each label among those of its example, 1 for the most probable one."""
    check_logits(logits, "places")
    return _sorted(logits).argsort(1) + 1


def check_uniform(u: object, rows: int, of: str) -> None:
    """Raises UserError unless u is a tensor of floats in [0, 1], one for each row.

    Args:
        u: as it came.
        rows: how many there have to be.
        of: who takes it.
    """
    given = check_tensor(u, "u")
    if given.shape != (rows,) or not given.is_floating_point():
        raise UserError(f"{of} takes float u [{rows}], not {given.dtype} of shape {tuple(given.shape)}.")
    refuse(~((given >= 0) & (given <= 1)), f"what {of} takes", "has u outside 0…1")


def _ranked(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each label the probability of all that come before it, its own, and its place from 1 on."""
    order = _sorted(logits)
    own = logits.double().softmax(1)
    there = own.gather(1, order)
    place = order.argsort(1)
    return (there.cumsum(1) - there).gather(1, place), own, place + 1


def _sorted(logits: Tensor) -> Tensor:
    return logits.argsort(dim=1, descending=True, stable=True)
