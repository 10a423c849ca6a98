"""AutoAttack: several attacks in a row, each on what the ones before could not break."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from poise.attacks.apgd import APGD
from poise.attacks.apgd_targeted import TargetedAPGD
from poise.attacks.attack import MEMORY, Attack, at_once, check_threat, is_right, own, own_labels
from poise.attacks.draws import Draws
from poise.attacks.fab import FAB
from poise.attacks.fab_targeted import TargetedFAB
from poise.attacks.given import check_given, check_kinds
from poise.attacks.pieces import Piece, Pieces, digests, fingerprint
from poise.attacks.square import Square
from poise.attacks.threat import Threat
from poise.attacks.work import Work, counted
from poise.errors import UserError, nearest
from poise.modes import in_mode
from poise.number_checks import check_counts
from poise.progress import Progress, no_progress

CLEAN = "clean"
MOST = 1000  # examples of a piece: what is lost when an evaluation is killed
PLANS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}

log = logging.getLogger("poise")


@dataclass(frozen=True)
class Verdict:
    """What attacks in a row left.

    Args:
        x_adv: of each example the wrong point that was found; of one that withstood all, the point where the first
            attack found its loss greatest; of one that was wrong from the start, the example itself.
        robust: which examples are still right as they are (`clean`), then after each attack, in order.
        work: what each attack cost.
    """

    x_adv: Float[Tensor, "N *input"]
    robust: Mapping[str, Bool[Tensor, " N"]]
    work: Mapping[str, Work] = field(default_factory=dict)

    @property
    def right(self) -> Bool[Tensor, " N"]:
        """Which examples withstood all."""
        return list(self.robust.values())[-1]


class AutoAttack:
    """The attacks by which robust accuracy is reported, with the budgets and in the order of their authors.

    `standard`: APGD-CE, targeted APGD, targeted FAB, Square. `plus`: five restarts of APGD-CE, APGD-DLR and FAB, then
    Square, targeted APGD and targeted FAB. `rand`, for models whose output is random: APGD-CE and APGD-DLR on the mean
    of 20 gradients. Under l1 the standard APGD-CE has five restarts, and the targeted one five targets. Each attack
    sees only the examples that were right so far; an example counts as broken if the model is wrong at a point inside
    the threat. The verdict on an example hangs on seed and index alone, not on batches, ranks or its neighbours.

    Source: Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks, 2020, arXiv 2003.01690; under l1 Croce, Hein: Mind the box, 2021, arXiv 2103.01208. Departures from the
    authors' code: draws by example; with fewer than ten classes every other class is a target; with three APGD-DLR
    stands in for the targeted one, and with two, where neither loss is defined, both are left out (a warning says so).

    Cost, at most, of an example that withstands `standard`: 1,000 gradients by APGD, 900 by FAB, 5,000 forwards by
    Square; what is broken on the way costs little.

    Args:
        threat: what is allowed.
        version: of the above.
        memory: bytes of activations that one pass may keep, >= 1; examples are taken in pieces that fit.

    Raises:
        UserError: no such version, no threat, or no such memory.
    """

    def __init__(self, threat: Threat, version: str = "standard", memory: int = MEMORY) -> None:
        if version not in PLANS:
            known = ", ".join(PLANS)
            raise UserError(f"version={version!r} of AutoAttack is none of {known}.{nearest(str(version), PLANS)}")
        check_threat("AutoAttack", threat)
        check_counts("AutoAttack", memory=memory)
        self.threat = threat
        self.version = version
        self.memory = memory

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "N *input"],
        y: Int[Tensor, " N"],
        seed: int = 0,
        index: Int[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N *input"]:
        """The attacked inputs, as `Verdict.x_adv` has them."""
        return self.run(model, x, y, seed, index).x_adv

    def run(
        self,
        model: nn.Module,
        x: Float[Tensor, "N *input"],
        y: Int[Tensor, " N"],
        seed: int = 0,
        index: Int[Tensor, " N"] | None = None,
        progress: Progress = no_progress,
        kept: str | Path | None = None,
    ) -> Verdict:
        """Attack, and tell what each attack left.

        Inputs may lie on another device than the model; they are moved there piece by piece.

        Args:
            model: from inputs in the valid range to logits [N, C]; it takes float32, whatever its own precision, or
                float64 where x is.
            x: clean inputs in the valid range; where they are NaN the model is wrong.
            y: true labels in 0…C-1.
            seed: of all draws, a number of 64 bits.
            index: position of each example in its split, each another; 0…N-1 where None.
            progress: a bar for each attack.
            kept: a directory where finished pieces are kept, until it is removed. The same attack on the same model and
                examples goes on from there, also where it was killed, or examples are shared out differently.

        Raises:
            UserError: what is given is none of these (see `check_kinds` and `check_given`); nothing can be kept there;
                a model that gives no gradient.
        """
        check_kinds(model, x, y, index)
        index = torch.arange(len(x)) if index is None else index.cpu()
        with torch.inference_mode(False), in_mode(model, "eval"):
            own_x = own(x).cpu()
            num_classes = check_given(model, self.threat, own_x, y, seed, index)
            _check_different(index)
            pieces = Pieces(kept, fingerprint(model, self.threat, self.version, seed) if kept else "")
            examples = _Examples(model, own_x, own_labels(y, own_x), index, seed, self.memory)
            for attack in self.attacks(num_classes):
                with progress(attack.name, int(examples.right.sum())) as done:
                    examples.face(attack, pieces, done)
        return Verdict(examples.x_adv.to(x.device), examples.robust, examples.work)

    def attacks(self, num_classes: int) -> list[Attack]:
        """Those of this version that are defined for so many classes, in order."""
        return [self._made(name, num_classes - 1) for name in _defined(PLANS[self.version], num_classes)]

    def _made(self, name: str, others: int) -> Attack:
        """An attack with the budget that this version gives it, against `others` wrong classes."""
        threat, memory = self.threat, self.memory
        several = 5 if self.version == "plus" or (threat.norm == "l1" and self.version == "standard") else 1
        average = 20 if self.version == "rand" else 1
        most = 5 if threat.norm == "l1" and self.version == "standard" else 9
        make: dict[str, Callable[[], Attack]] = {
            "apgd-ce": lambda: APGD(threat, "ce", restarts=several, average=average, memory=memory),
            "apgd-dlr": lambda: APGD(threat, "dlr", restarts=several, average=average, memory=memory),
            "apgd-t": lambda: TargetedAPGD(threat, targets=min(most, others), memory=memory),
            "fab": lambda: FAB(threat, restarts=5, memory=memory),
            "fab-t": lambda: TargetedFAB(threat, targets=min(9, others), memory=memory),
            "square": lambda: Square(threat, queries=5000, memory=memory),
        }
        return make[name]()


def _check_different(index: Tensor) -> None:
    """By its position an example is known again."""
    if len(index.unique()) < len(index):
        raise UserError("index of AutoAttack has a position twice: give each example another, as in torch.arange(N).")


def _defined(plan: tuple[str, ...], num_classes: int) -> list[str]:
    """The attacks of a plan whose losses exist: targeted DLR takes four classes, DLR three."""
    if num_classes > 3:
        return list(plan)
    stand_ins = {"apgd-t": "apgd-dlr"} if num_classes == 3 else {"apgd-t": None, "apgd-dlr": None}
    found = dict.fromkeys(stand_ins.get(name, name) for name in plan)
    log.warning("with %d classes AutoAttack goes without %s", num_classes, " and ".join({*plan} - {*found}))
    return [name for name in found if name is not None]


class _Examples:
    """The examples under attack, on the host, and what has become of them."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor, seed: int, memory: int) -> None:
        self.model, self.x, self.y, self.index, self.seed = model, x, y, index, seed
        self.device = next((p.device for p in model.parameters()), x.device)
        self.at_once = min(MOST, at_once(model, x[:2].to(self.device), memory))
        right = [is_right(model, *self._at(rows)).cpu() for rows in torch.arange(len(x)).split(self.at_once)]
        self.x_adv, self.right = x.clone(), torch.cat(right)
        self.robust = {CLEAN: self.right}
        self.work: dict[str, Work] = {}
        self._sorted, self._order = index.sort()

    def face(self, attack: Attack, pieces: Pieces, done: Callable[[int], None]) -> None:
        """Let an attack try on all that are still right."""
        waiting, self.right, cost = self.right.clone(), self.right.clone(), Work()
        for piece in self._all(attack, pieces, waiting):
            rows = self._rows(piece)
            left = piece.broken if self.work else torch.ones_like(piece.broken)  # survivors keep the first one's best
            self.x_adv[rows[left]] = piece.x_adv[left]
            self.right[rows] = ~piece.broken
            waiting[rows] = False
            cost += piece.work
            done(len(rows))
        self.robust[attack.name], self.work[attack.name] = self.right, cost

    def _all(self, attack: Attack, pieces: Pieces, waiting: Tensor) -> Iterator[Piece]:
        """What is known of the examples that wait, and then what is found out about the others."""
        for piece in pieces.kept(attack.name, self.x):
            if known := self._of_these(piece, waiting):
                yield known
        left = waiting.nonzero().flatten()
        for rows in left.split(self.at_once) if len(left) else ():
            piece = self._attacked(attack, rows)
            pieces.keep(attack.name, piece)
            yield piece

    def _attacked(self, attack: Attack, rows: Tensor) -> Piece:
        x, y = self._at(rows)
        draws = Draws.of(self.seed, self.index[rows].to(self.device)).named(attack.name)
        began = time.perf_counter()
        with counted(self.model) as work:
            x_adv = attack.search(self.model, x, y, draws)
            broken = ~is_right(self.model, x_adv, y) & attack.threat.permits(x_adv, x)
        index, digest = self.index[rows], digests(self.x[rows], self.y[rows])
        x_adv, broken = x_adv.cpu(), broken.cpu()  # waits for the device, which the clock is to count
        work.seconds = time.perf_counter() - began
        return Piece(index, digest, x_adv, broken, work)

    def _of_these(self, piece: Piece, waiting: Tensor) -> Piece | None:
        """Of a kept piece what is about examples that wait, unchanged; None where there are none."""
        rows = self._rows(piece)
        here = rows >= 0
        here &= waiting[rows] & (digests(self.x[rows], self.y[rows]) == piece.digest)
        if not here.any():
            return None
        index, digest, x_adv, broken = (t[here] for t in (piece.index, piece.digest, piece.x_adv, piece.broken))
        return Piece(index, digest, x_adv, broken, piece.work)

    def _rows(self, piece: Piece) -> Tensor:
        """Where a piece's examples stand here; -1 where they do not."""
        places = torch.searchsorted(self._sorted, piece.index).clamp(max=len(self._sorted) - 1)
        return torch.where(self._sorted[places] == piece.index, self._order[places], -1)

    def _at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[rows].to(self.device), self.y[rows].to(self.device)
