"""A mixture of two classifiers beside its authors' code: `python tests/benchmarks/mixing.py CHECKOUT`.

CHECKOUT is a clone of Bai-YT/AdaptiveSmoothing. Its composite model, and poise's mixture, mix the same two networks on
the same inputs; its loss, and that of confidence_mix, see the same logits and γ. All in double precision on a CPU.
"""

import argparse
import contextlib
import io
import json
import sys
from typing import Any

import torch
from torch import Tensor, nn

from poise.card import Card
from poise.models.classifier import Classifier
from poise.models.mixture import mixture
from poise_recipes.adversarial.confidence_mix import ConfidenceMix, trust_loss

ROWS, CLASSES, SHAPE = 64, 10, (3, 16, 16)
SCALES = (1.2, 0.5)
CONSTANTS = {"bce": 1.5, "ce": 0.5, "prod": 0.3}


class WithInner(nn.Module):
    """A member as their code wants one: logits and inner outputs."""

    def __init__(self, member: Classifier) -> None:
        super().__init__()
        self.member = member

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.member(x), None


def ours(alpha: float) -> Classifier:
    """The mixture of two networks that are sure of what they say."""
    card = Card(
        SHAPE, tuple(map(str, range(CLASSES))), (0.0, 1.0), {"name": "small_bn_cnn", "parameters": {"width": 8}}
    )
    described = json.dumps({**json.loads(card.text()), "sha256": "0" * 64})
    torch.manual_seed(0)
    members = {"standard": described, "robust": described}
    made = mixture(CLASSES, SHAPE, alpha, **members, standard_scale=SCALES[0], robust_scale=SCALES[1]).double()
    with torch.no_grad():
        for member in (made.backbone.standard, made.backbone.robust):
            for weight in member.head.parameters():
                weight.mul_(8)
    made.backbone.mixing.gamma = torch.logit(torch.tensor([[alpha]], dtype=torch.float64))
    return made.eval()


def theirs(composite: Any, made: Classifier, alpha: float) -> Any:
    """Their model of the same members."""
    settings = {
        "std_model_type": "rn18",
        "in_planes": (64, 64),
        "pn_version": 3,
        "policy_graph": False,
        "use_policy": False,
        "parallel": 1,
        "gamma": 0.0,
        "std_scale": SCALES[0],
        "rob_scale": SCALES[1],
    }
    members = [WithInner(made.backbone.standard), WithInner(made.backbone.robust)]
    with contextlib.redirect_stdout(io.StringIO()):
        model = composite(members, settings).double()
    # the γ of its settings is overwritten where it is made
    model.gamma = nn.Parameter(torch.logit(torch.tensor(alpha, dtype=torch.float64)), requires_grad=False)
    model.std_scale.fill_(SCALES[0])  # what they were before they had double precision
    model.rob_scale.fill_(SCALES[1])
    return model.eval()


def apart(one: Tensor, other: Tensor) -> str:
    """The largest difference."""
    return f"{float((one - other).abs().max()):.0e}"


def mixed_line(composite: Any, alpha: float) -> str:
    """Log-probabilities of both, and what an attack follows."""
    made = ours(alpha)
    other = theirs(composite, made, alpha)
    keyed = torch.Generator().manual_seed(1)
    x = torch.rand(ROWS, *SHAPE, generator=keyed, dtype=torch.float64, requires_grad=True)
    label = torch.randint(CLASSES, (ROWS,), generator=keyed)
    found = []
    for said in (made(x), other(x)[0]):
        loss = nn.functional.cross_entropy(said, label, reduction="sum")
        found.append((said.detach(), torch.autograd.grad(loss, x)[0]))
    (said, slope), (said_too, slope_too) = found
    return f"| {alpha:g} | {said.min():.1f} | {apart(said, said_too)} | {apart(slope, slope_too)} |"


def loss_line(composed: Any, attacked: bool) -> str:
    """Both losses of the same logits and γ."""
    keyed = torch.Generator().manual_seed(2)
    logits = (3 * torch.randn(ROWS, CLASSES, generator=keyed, dtype=torch.float64)).log_softmax(1)
    gamma = 2 * torch.randn(ROWS, 1, generator=keyed, dtype=torch.float64)
    label = torch.randint(CLASSES, (ROWS,), generator=keyed)
    recipe = ConfidenceMix(bce=CONSTANTS["bce"], ce=CONSTANTS["ce"], product=CONSTANTS["prod"])
    ce = nn.functional.cross_entropy(logits, label, reduction="none")
    ours = recipe._loss(trust_loss(gamma, attacked=attacked), ce)
    wanted = torch.full((ROWS,), float(attacked), dtype=torch.float64)
    other = composed(CONSTANTS, reduction="none")(logits, label, gamma[:, 0], wanted)
    return f"| {'attacked' if attacked else 'clean'} | {ours.mean():.6f} | {apart(ours, other)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", help="of the authors' code")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, options.checkout)
    from adaptive_smoothing.losses import CompLoss  # type: ignore[import-not-found]
    from models.comp_model import CompositeModel  # type: ignore[import-not-found]

    print("| α | least log-probability | apart by | slopes apart by |\n| --- | --- | --- | --- |")
    for alpha in (0.05, 0.5, 0.852, 0.924, 0.999):
        print(mixed_line(CompositeModel, alpha))
    print("\n| inputs | mean loss | apart by |\n| --- | --- | --- |")
    for attacked in (False, True):
        print(loss_line(CompLoss, attacked))


if __name__ == "__main__":
    main()
