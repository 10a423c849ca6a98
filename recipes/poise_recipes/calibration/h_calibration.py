"""A mixture of temperatures that makes average probability and frequency agree wherever probabilities are alike."""

import logging
import math
from functools import reduce
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from torch import Tensor, inf

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out, keep_prediction
from poise.errors import UserError
from poise_recipes.calibration.temperature_scaling import solve_temperature

log = logging.getLogger("poise")

CLUSTERS = 15  # of events with similar probabilities, which count alike however many events they hold
ROUNDS = 25  # of k-means, and of expectation-maximisation for the share of noise
RATE = 0.05  # of Adam's first step, in log 1/T and log w; it falls to 0 along half a cosine
HOTTER = 3  # log of how far the T of label noise starts above that of all labels
SHARE = 20  # a window holds at most one event in so many
TINY = 1e-38  # what is less likely counts as this much where steps are compared; single precision has no less
NEVER = -1e300  # log-probability of a masked class where gradients pass: times any 1/T still finite


class HCalibration(Calibrator):
    """Mixes temperatures so that in every window of similar probabilities their mean is the frequency.

    Source: Huang, Cao, Xia, Chen, Wang, Zhang, h-calibration: Rethinking Classifier Recalibration with
    Probabilistic Error-Bounded Objective, 2025, arXiv 2506.17968. Logits [B, C] go in, log-probabilities
    [B, C] come out: log Σ_k w_k softmax(logits / T_k). Neither the predicted class nor the order of a row's
    classes ever changes. `h_loss` has the objective. The step of the optimiser with the least negative
    log-likelihood on the held-out split is kept, which is the authors' choice for proper scores.

    Departures from the authors' code: no class is left out in turn, which is harmless where classes are
    balanced, costs C times as much and moves the optimum where they are not (the authors leave none out on
    ImageNet either); a window holds at most a twentieth of the events, so that it stays narrow on small
    splits; k-means starts from quantiles in place of random points; the tolerance ε, there 1e-20, is 0; weights
    and 1/T are positive as exponentials in place of absolute values, T within bounds; T_k start around the T of
    temperature scaling in place of near infinity, one of them far hotter where the likelihood finds a share of
    noise among the labels, so that a fixed number of steps with a falling rate is enough where theirs stop by
    the calibration error. The mixture is in single precision, as theirs is; sums over events are in double.

    Args:
        temperatures: K.
        window: events whose mean probability is compared with their frequency.
        steps: of Adam, each over the whole held-out split.
        lowest: smallest T. Examples that are all predicted right would take T to 0.
        highest: largest T. Logits that say nothing of the labels would take T to infinity, a share of labels that
            are noise one T.

    Raises:
        UserError: unless 0 < lowest < highest, both finite.
    """

    paper = (
        "Huang et al., h-calibration: Rethinking Classifier Recalibration with Probabilistic Error-Bounded "
        "Objective, 2025, arXiv 2506.17968"
    )
    default: ClassVar[bool] = True
    log_inverse: Tensor
    log_weight: Tensor
    hit_bound: Tensor

    def __init__(
        self,
        temperatures: Annotated[int, Ge(2)] = 16,
        window: Annotated[int, Ge(1)] = 201,
        steps: Annotated[int, Ge(1)] = 100,
        lowest: Annotated[float, Gt(0)] = 0.01,
        highest: Annotated[float, Gt(0)] = 100.0,
    ) -> None:
        super().__init__()
        if not 0 < lowest < highest < math.inf:
            raise UserError(f"lowest={lowest} and highest={highest} of h_calibration: 0 < lowest < highest.")
        self.temperatures = temperatures
        self.window = window
        self.steps = steps
        self.lowest = lowest
        self.highest = highest
        self.register_buffer("log_inverse", torch.zeros(temperatures, dtype=torch.float64))
        self.register_buffer("log_weight", torch.zeros(temperatures, dtype=torch.float64).log_softmax(0))
        self.register_buffer("hit_bound", torch.zeros((), dtype=torch.bool))

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "HCalibration":
        """Find temperatures and weights; logs a warning where a temperature is one of the bounds."""
        check_held_out(held_out)
        log_inverse, log_weight = self._descended(held_out.logits.detach().double(), held_out.label.long())
        self.log_inverse.copy_(log_inverse)
        self.log_weight.copy_(log_weight)
        self.hit_bound.fill_(bool(((log_inverse == self._low) | (log_inverse == self._high)).any()))
        coldest, hottest = math.exp(-log_inverse.max()), math.exp(-log_inverse.min())
        log.info("h_calibration: T = %.4g…%.4g from %d examples", coldest, hottest, len(held_out.label))
        if self.hit_bound:
            log.warning("h_calibration: a T is a bound of %g…%g", self.lowest, self.highest)
        return self

    @property
    def _low(self) -> float:
        return -math.log(self.highest)

    @property
    def _high(self) -> float:
        return -math.log(self.lowest)

    @torch.no_grad()
    def _descended(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Log 1/T and log w [K] of the step with the least negative log-likelihood."""
        best, _ = solve_temperature(logits, label, self.lowest, self.highest)
        log_inverse, score = _start(logits, label, self.temperatures, -math.log(best))
        log_inverse.clamp_(self._low, self._high)
        optimizer = torch.optim.Adam([log_inverse, score], lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        below = _below_the_best(logits)
        possible = (logits.t() > -inf).flatten().nonzero()[:, 0]
        occurred = torch.zeros_like(below).scatter_(0, label[None], 1.0).flatten()[possible]
        window = min(self.window, len(possible) // SHARE)
        least, kept = inf, (log_inverse, score)
        for _ in range(self.steps):
            inverse, weight = log_inverse.exp(), score.softmax(0)
            mixed = mixture(below, inverse, weight)
            nll = -float(mixed.gather(0, label[None]).clamp(min=TINY).double().log().mean())
            if nll <= least:
                least, kept = nll, (log_inverse.clone(), score.log_softmax(0))
            _, slope = h_loss(mixed.flatten().index_select(0, possible), occurred, window)
            along_weight, along_inverse = mixture_slopes(below, inverse, mixed.zero_().put_(possible, slope))
            score.grad = weight * (along_weight - weight @ along_weight)
            log_inverse.grad = weight * inverse * along_inverse
            optimizer.step()
            schedule.step()
            log_inverse.clamp_(self._low, self._high)
        return kept

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        log_p = logits.double().log_softmax(-1).clamp(min=NEVER).t().contiguous()
        each = zip(self.log_inverse.exp(), self.log_weight, strict=True)  # one by one: [K, C, N] may not fit
        mixed = reduce(torch.logaddexp, (weight + (inverse * log_p).log_softmax(0) for inverse, weight in each)).t()
        return keep_prediction(mixed.masked_fill(logits == -inf, -inf).to(logits.dtype), logits)


def _start(logits: Tensor, label: Tensor, temperatures: int, best: float) -> tuple[Tensor, Tensor]:
    """Log 1/T and log w [K], around the best of one temperature; one far hotter where labels are noise.

    Label noise is a share of the uniform distribution, which the descent would not reach. It is taken to be there
    if a temperature and that share have a likelihood that pays for one more parameter (the Bayesian information
    criterion). Temperatures are then around that one, and the share is the weight of the hot one.
    """

    def log_likelihood(log_inverse: float) -> Tensor:
        return (math.exp(log_inverse) * logits).log_softmax(-1).gather(1, label[:, None])[:, 0]

    around = torch.linspace(-1, 1, temperatures, dtype=torch.float64) + best
    signal = torch.stack([log_likelihood(each) for each in around.tolist()])
    noise = log_likelihood(best - HOTTER)
    share = torch.full_like(around, 0.5)[:, None]
    for _ in range(ROUNDS):
        share = (share.logit() + noise - signal).sigmoid().mean(1, keepdim=True)
    gain = torch.logaddexp((-share).log1p() + signal, share.log() + noise).sum(1) - log_likelihood(best).sum()
    found, score = gain.argmax(), torch.zeros_like(around)
    if gain[found] > math.log(len(label)) / 2:
        around += around[found] - best
        around[0] = best - HOTTER
        score[0] = share[found, 0].logit() + math.log(temperatures - 1)
    return around, score


def h_loss(
    probability: Float[Tensor, " E"], occurred: Float[Tensor, " E"], window: int
) -> tuple[Float[Tensor, ""], Float[Tensor, " E"]]:
    """How far mean probability and frequency are apart in windows of events, each cluster counting alike.

    An event is an example and a class: its probability, taken in single precision, and whether it occurred, 1 or
    0. Events are sorted by probability. Windows are centred on each event and hold `window` events, one more if
    that is even; at the ends what is missing counts as zero. Gives the loss, in 0…1, and its derivative with
    respect to each probability; the order and the clusters, of k-means on the probabilities, are taken as constants.
    """
    value, order = _sorted(probability)
    half = window // 2
    gap = _windowed(value - occurred.index_select(0, order), half)
    sizes = cluster_sizes(value)
    weight = (CLUSTERS * sizes.double()).reciprocal().repeat_interleave(sizes)
    pull = _windowed(weight * gap.sign(), half).to(probability.dtype)
    return weight @ gap.abs(), torch.empty_like(probability).scatter_(0, order, pull)


def _sorted(probability: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities from the lowest to the highest in double precision, and the events they are of.

    The bits of a positive number in single precision are ordered as it is. With the event's number below them
    they are sorted as integers, which takes a tenth of the time of a sort with indices, and ties keep their order.
    """
    key = probability.float().view(torch.int32).long() << 32
    key += torch.arange(len(key))
    key.numpy().sort()  # in place; torch would find indices too
    value = (key >> 32).int().view(torch.float32).double()
    return value, key.bitwise_and_(0xFFFFFFFF)


def _windowed(value: Tensor, half: int) -> Tensor:
    """Means of windows with `half` events to either side."""
    width = 2 * half + 1
    total = F.pad(value, (half + 1, half)).cumsum(0)
    return (total[width:] - total[:-width]) / width


def cluster_sizes(value: Float[Tensor, " E"]) -> Int[Tensor, " K"]:
    """How many of the sorted values belong to each cluster of k-means, from the lowest to the highest."""
    values = value.numpy()  # a round on so few centres takes torch three times as long
    total = np.append(0.0, values.cumsum())
    edges = np.append(np.zeros(CLUSTERS, dtype=np.int64), len(values))
    centre = values[((np.arange(CLUSTERS) + 0.5) / CLUSTERS * len(values)).astype(np.int64)]
    for _ in range(ROUNDS + 1):
        inner = values.searchsorted((centre[1:] + centre[:-1]) / 2, "right")
        if (inner == edges[1:-1]).all():
            break
        edges[1:-1] = inner
        sizes = np.diff(edges)
        centre = np.where(sizes > 0, np.diff(total[edges]) / sizes.clip(1), centre)
    return torch.from_numpy(np.diff(edges))


def mixture(
    logits: Float[Tensor, "C N"], inverse: Float[Tensor, " K"], weight: Float[Tensor, " K"]
) -> Float[Tensor, "C N"]:
    """Probabilities Σ_k w_k softmax(logits / T_k), from logits of which each row's highest is 0."""
    mixed, power = torch.zeros_like(logits), torch.empty_like(logits)
    for each, share in zip(inverse.tolist(), weight.tolist(), strict=True):
        torch.mul(logits, each, out=power).exp_()
        mixed.addcmul_(power, share / power.sum(0))
    return mixed


def mixture_slopes(
    logits: Float[Tensor, "C N"], inverse: Float[Tensor, " K"], slope: Float[Tensor, "C N"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """Derivatives along w_k, and along 1/T_k divided by w_k, of what has this slope along the mixture.

    Along 1/T_k a row gives the covariance of logits and slope under its softmax. Powers are taken again, one
    temperature after the other, for K times [C, N] may not fit.
    """
    power, product, pulled = torch.empty_like(logits), torch.empty_like(logits), slope * logits
    along = []
    for each in inverse.tolist():
        total = torch.mul(logits, each, out=power).exp_().sum(0)
        mean, both, of_logit = (torch.mul(power, x, out=product).sum(0) / total for x in (slope, pulled, logits))
        along.append(torch.stack([mean, both - mean * of_logit]).sum(1, dtype=torch.float64))
    along_weight, along_inverse = torch.stack(along, 1)
    return along_weight, along_inverse


def _below_the_best(logits: Tensor) -> Tensor:
    """How far each class is below its row's best, [C, N] in single precision, finite for masked classes too.

    Classes come first: a sum over a few numbers that lie side by side takes ten times as long.
    """
    below = (logits - logits.amax(-1, keepdim=True)).t().float()
    return below.clamp(min=torch.finfo(below.dtype).min).contiguous()
