"""Models whose smoothed classifiers are known in closed form, and tests of how often a certificate is wrong."""

from scipy import stats
from torch import Tensor, nn

from poise.attacks.threat import Threat
from poise.data.dataset import Arrays, Splits
from poise.evaluator import Subject
from poise.models.classifier import Classifier

UNLIKELY = 1e-6  # of a test that fails by chance


class Linear(nn.Module):
    """Logits that are linear in the inputs, whatever their shape, in float64."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.double()), nn.Parameter(bias.double())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def subject(model: nn.Module, x: Tensor, label: Tensor, num_classes: int, seed: int = 0) -> Subject:
    """A model and what it is tested on; pictures where inputs have three axes."""
    image = x.ndim == 4
    own = Arrays(x, label)
    data = Splits(
        own, own, own, own, num_classes, valid_range=(0.0, 1.0) if image else None, kind="image" if image else "tabular"
    )
    return Subject(Classifier(model, nn.Identity()), data, Threat("l2", 0.1, None, None), seed=seed, batch_size=100)


def too_many(wrong: int, trials: int, alpha: float) -> bool:
    """Whether so many wrong certificates show that each is wrong with a probability above alpha."""
    return bool(stats.binom.sf(wrong - 1, trials, alpha) < UNLIKELY)
