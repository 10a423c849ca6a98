"""How a standard and a robust classifier become one: their probabilities are mixed, and what that keeps of the second.

Bai, Anderson, Kim, Sojoudi: Improving the Accuracy-Robustness Trade-Off of Classifiers via Adaptive Smoothing, 2024,
arXiv 2301.12554.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from poise.models.classifier import Classifier


class Members(nn.Module):
    """Two classifiers and how much the second counts: inputs [B, *input] to [B, 2·C + 1].

    These are the log-probabilities of both, each [B, C], and γ [B, 1]: the robust one's share is sigmoid(γ).

    Args:
        standard: the accurate one.
        robust: the robust one.
        scales: what the logits of each are multiplied with before the softmax.
        mixing: features of both, [B, D1 + D2], to γ [B, 1].
    """

    def __init__(
        self, standard: Classifier, robust: Classifier, scales: tuple[float, float], mixing: nn.Module
    ) -> None:
        super().__init__()
        self.standard, self.robust, self.mixing = standard, robust, mixing
        self.scales = scales

    def forward(self, x: Float[Tensor, "B *input"]) -> Float[Tensor, "B columns"]:
        """What is to be mixed, in float32 or better."""
        members = (self.standard, self.robust)
        features = [member.backbone(member.normalise(x)) for member in members]
        logits = [member.head(h) for member, h in zip(members, features, strict=True)]
        kept = torch.float64 if logits[0].dtype == torch.float64 else torch.float32
        said = [(scale * z.to(kept)).log_softmax(1) for scale, z in zip(self.scales, logits, strict=True)]
        return torch.cat([*said, self.mixing(torch.cat(features, 1)).to(kept)], 1)


class ConstantShare(nn.Module):
    """One γ for all inputs.

    Args:
        alpha: the share, in [0, 1].
    """

    gamma: Tensor

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.register_buffer("gamma", torch.logit(torch.tensor([[alpha]])))

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B 1"]:
        """The same in every row."""
        return self.gamma.to(features.dtype).expand(len(features), 1)


class LearnedShare(nn.Sequential):
    """γ from the features of both members: a linear layer, ReLU, and one number.

    Args:
        features: D1 + D2.
        width: units of the hidden layer.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__(nn.LayerNorm(features, elementwise_affine=False), nn.Linear(features, width))
        self.extend([nn.ReLU(), nn.Linear(width, 1)])


class Mix(nn.Module):
    """What `Members` gives, as log-probabilities of the mixture [B, C].

    Args:
        low, high: ends of the robust member's share in evaluation mode; in training mode, in which the network is
            taught that yields it, the share has all of 0…1.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, said: Float[Tensor, "B columns"]) -> Float[Tensor, "B C"]:
        """log((1 - α)·p + α·q) of the members' p and q."""
        classes = said.shape[1] // 2
        standard, robust, gamma = said.split([classes, classes, 1], 1)
        low, high = (0.0, 1.0) if self.training else (self.low, self.high)
        if (low, high) == (0.0, 1.0):  # where sigmoid(γ) is 1, log sigmoid(-γ) is still a number
            return mixed(standard, robust, nn.functional.logsigmoid(-gamma), nn.functional.logsigmoid(gamma))
        share = low + (high - low) * gamma.sigmoid()
        return mixed(standard, robust, (-share).log1p(), share.log())


def mixed(
    standard: Float[Tensor, "B C"],
    robust: Float[Tensor, "B C"],
    log_standard_share: Float[Tensor, "B 1"],
    log_robust_share: Float[Tensor, "B 1"],
) -> Float[Tensor, "B C"]:
    """The log-probabilities [B, C] of a mixture, from those of its members and the logarithms of their shares."""
    return torch.logaddexp(standard + log_standard_share, robust + log_robust_share)


def keeps_prediction(margin: Float[Tensor, " N"], alpha: Float[Tensor, " N"] | float) -> Bool[Tensor, " N"]:
    """Where the mixture surely predicts what its robust member does, whatever the standard one says.

    The mixture's lead is at least α·margin - (1 - α). Where that is above zero at every input of a ball around an
    example, the robust member's certificate of the ball is the mixture's too. No α of 1/2 or less gives one. At zero
    itself there may be a tie, which is not counted.

    Args:
        margin: probability of the robust member's class less that of the next, the least over the ball, in [0, 1].
        alpha: the robust member's share there, the least over the ball, in [0, 1].
    """
    return alpha * margin > 1 - alpha
