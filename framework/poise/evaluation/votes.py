"""How a model classifies noisy copies of each example, counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.attacks.draws import Draws
from poise.attacks.pieces import fingerprint
from poise.batch import as_input
from poise.data.prefetch import fetched
from poise.evaluation.kept_votes import KeptVotes
from poise.evaluator import Subject
from poise.modes import in_mode
from poise.predictions import predict

View = Callable[[Float[Tensor, "*input"], Float[Tensor, "n *input"]], Float[Tensor, "n *input"]]

LOST = 0.5  # of the accuracy: a network that loses more was hardly trained for what it is shown


@dataclass(frozen=True)
class Ballot:
    """One vote among noisy copies.

    Args:
        name: its noise is keyed by it: two of one name see the same.
        copies: of each example.
        sigma: of the noise, in input units.
        view: (x [*input], noise [n, *input]) -> what the model sees [n, *input].
    """

    name: str
    copies: int
    sigma: float
    view: View = torch.add


def votes(
    subject: Subject, some: Int[Tensor, " N"], ballots: Sequence[Ballot], title: str
) -> Int[Tensor, "N ballots C"]:
    """How many copies of some test examples fall to each class, on the host, the same on every rank.

    Noise is keyed by (seed, ballot, position in the split), so it hangs neither on batch size nor on ranks; each rank
    has its share of the examples. A copy whose logits are no numbers counts for no class. What is counted is kept on
    disk every minute until all is, where there is a place for it.

    Args:
        subject: whose model is asked, `batch_size` copies at once.
        some: positions in the test split.
        ballots: in order.
        title: of the progress bar.
    """
    model, data, ranks = subject.model, subject.splits.test, subject.ranks
    parameter = next(model.parameters())
    own = some[ranks.rank :: ranks.size]
    counts = torch.zeros(len(own), len(ballots), subject.splits.num_classes, dtype=torch.int64)
    settings = [(ballot.name, ballot.copies, ballot.sigma) for ballot in ballots]
    kept = KeptVotes(subject.kept, fingerprint(model, subject.seed, settings), ranks.rank)
    known = kept.found()
    with in_mode(model, "eval"), torch.no_grad(), subject.progress(title, len(own)) as done:
        for row, record in enumerate(fetched(data.fetch, own.split(1), [data])):
            x = as_input(record["x"].to(parameter.device))
            x = x.double() if parameter.dtype == torch.float64 else x
            if (votes_of := known.get(int(record["index"]))) is None:
                draws = Draws.of(subject.seed, record["index"].to(x.device)).named("votes")
                votes_of = torch.stack(
                    [_counted(subject, x[0], ballot, draws.named(ballot.name)) for ballot in ballots]
                )
            counts[row] = votes_of
            done(1)
            kept.keep(own[: row + 1], counts[: row + 1])
    whole = torch.empty((len(some), *counts.shape[1:]), dtype=torch.int64)
    order = torch.cat([torch.arange(rank, len(some), ranks.size) for rank in range(ranks.size)])
    whole[order] = ranks.collect(counts)
    if ranks.rank == 0:
        kept.clear()
    return whole


def _counted(subject: Subject, x: Float[Tensor, "*input"], ballot: Ballot, draws: Draws) -> Int[Tensor, " C"]:
    """The votes of one example's copies."""
    counts = torch.zeros(subject.splits.num_classes, dtype=torch.int64, device=x.device)
    for first in range(0, ballot.copies, subject.batch_size):
        copies = min(subject.batch_size, ballot.copies - first)
        noise = draws.normal(copies, *x.shape, first=first * x.numel())[0]
        logits = subject.model(ballot.view(x, ballot.sigma * noise.to(x.dtype)))
        counts += logits.argmax(1)[~logits.isnan().any(1)].bincount(minlength=len(counts))
    return counts.cpu()


def evenly_spread(subject: Subject, examples: int) -> Int[Tensor, " N"]:
    """Positions of so many test examples, or of all where there are fewer; at least one for each rank."""
    size = len(subject.splits.test)
    count = min(size, max(examples, subject.ranks.size))
    return torch.arange(count) * size // count


def misfit(subject: Subject, some: Int[Tensor, " N"], certified: float, seen: str, setting: str) -> tuple[str, ...]:
    """What to be warned of where far fewer examples are certified right than a network gets right as they are.

    Args:
        subject: whose network it is.
        some: positions of the examples in the test split.
        certified: share of them that is certified right at any radius.
        seen: what the network is shown, in words.
        setting: the parameter to look at.
    """
    data = subject.splits.test.rows(some)
    right = predict(subject.model, data, subject.ranks, batch_size=subject.batch_size).right
    plain = float(right.double().mean())
    if certified >= LOST * plain:
        return ()
    return (
        f"{100 * certified:.1f} % of the examples are certified right at all, and {100 * plain:.1f} % are got right as "
        f"they are: the network was hardly trained on {seen}. Train it on such, or set {setting} to the noise that it "
        "was trained with",
    )
