"""What an attack leaves of a split, over all ranks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from poise.attacks.attack import Attack, own
from poise.attacks.autoattack import CLEAN, AutoAttack
from poise.attacks.work import Work, counted
from poise.batch import Predictions, as_input
from poise.data.dataset import Arrays
from poise.distributed import Ranks
from poise.evaluator import Subject
from poise.models.classifier import Classifier
from poise.predictions import Attack as Attacked
from poise.predictions import in_order, predict


@dataclass(frozen=True)
class Left:
    """What one attack leaves, and what it cost; the same on every rank.

    Args:
        attack: its name, such as `pgd-20`.
        seen: what the model says at the points that the attack found.
        right: which examples withstood it.
        work: of all ranks; seconds are those of one device that does it all.
        after: of attacks in a row, which examples withstood each and those before it.
        works: of attacks in a row, what each cost.
    """

    attack: str
    seen: Predictions
    right: Bool[Tensor, " N"]
    work: Work
    after: Mapping[str, Bool[Tensor, " N"]] = field(default_factory=dict)
    works: Mapping[str, Work] = field(default_factory=dict)

    def right_as(self, calibrated: Predictions) -> Bool[Tensor, " N"]:
        """Which examples are right after a calibrator: those that withstood, where it changes no prediction.

        A point that just crosses a boundary may lie on its other side when it is predicted in another batch.
        """
        same = calibrated.logits.argmax(1) == self.seen.logits.argmax(1)
        return torch.where(same, self.right, calibrated.right)


def left_by(subject: Subject, data: Arrays, attack: Attack, index: Int[Tensor, " N"], title: str) -> Left:
    """Attack examples, each rank its share, in batches of the subject's size.

    Args:
        subject: the model under evaluation.
        data: the examples.
        attack: what is done to them.
        index: their positions in their split, of which draws are.
        title: of the progress bar.
    """
    began = time.perf_counter()
    with subject.progress(title, len(data)) as done, counted(subject.model) as work:
        found = attacking(attack, subject.seed, index)
        seen = predict(subject.model, data, subject.ranks, found, subject.batch_size, done)
    work.seconds = time.perf_counter() - began
    return Left(attack.name, seen, seen.right, _of_all(work, subject.ranks))


def attacking(attack: Attack, seed: int, index: Int[Tensor, " N"]) -> Attacked:
    """An attack as `predict` takes it.

    Args:
        attack: what is done to examples.
        seed: of all draws.
        index: positions of the examples in their split, of which draws are.
    """

    def attacked(model: Classifier, x: Tensor, label: Tensor, position: Tensor) -> Tensor:
        with attack.at_work(model):
            return attack.attacked(model, own(x), label.clone(), seed, index[position])

    return attacked


def left_by_autoattack(subject: Subject, split: str, data: Arrays, version: str) -> Left:
    """Attack a whole split by AutoAttack, each rank its share, going on with what was kept of it.

    A rank holds its share twice, in the precision of the model.

    Args:
        subject: the model under evaluation.
        split: its name.
        data: the split.
        version: of AutoAttack.
    """
    model, ranks = subject.model, subject.ranks
    index = torch.arange(ranks.rank, len(data), ranks.size)
    x = as_input(data.fetch(index)["x"])
    x = x.double() if next(model.parameters()).dtype == torch.float64 else x
    verdict = AutoAttack(subject.threat, version).run(
        model,
        x,
        data.label[index],
        subject.seed,
        index,
        lambda attack, total: subject.progress(f"{attack} on {split}", total),
        subject.kept and subject.kept / split,
    )

    def found(model: Classifier, x: Tensor, label: Tensor, position: Tensor) -> Tensor:
        return verdict.x_adv[position // ranks.size].to(x)

    after = {name: in_order(right, len(data), ranks) for name, right in verdict.robust.items() if name != CLEAN}
    works = {name: _of_all(work, ranks) for name, work in verdict.work.items()}
    seen = predict(model, data, ranks, found, subject.batch_size)
    right = in_order(verdict.right, len(data), ranks)
    name = "autoattack" if version == "standard" else f"autoattack-{version}"
    return Left(name, seen, right, sum(works.values(), Work()), after, works)


def _of_all(work: Work, ranks: Ranks) -> Work:
    total = ranks.sum(torch.tensor([work.forwards, work.backwards, work.seconds], dtype=torch.float64))
    forwards, backwards, seconds = total.tolist()
    return Work(int(forwards), int(backwards), seconds)
