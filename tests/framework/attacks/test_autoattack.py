from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poise.attacks.attack import Attack
from poise.attacks.autoattack import AutoAttack, Verdict
from poise.attacks.draws import Draws
from poise.attacks.threat import Threat
from poise.errors import UserError

LINF = Threat("linf", 0.15)


class Tiny(nn.Module):
    def __init__(self, num_classes: int = 5, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        hidden = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh())
        self.net = nn.Sequential(*hidden, nn.Linear(24, num_classes)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(3 * x)


def pictures(model: nn.Module, rows: int = 40) -> tuple[Tensor, Tensor]:
    """Of which all but every eighth is predicted right."""
    x = torch.rand(rows, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        logits = model(x)
    y = logits.argmax(1)
    y[::8] = logits.argmin(1)[::8]
    return x, y


class Noise(Attack):
    """Tries random points, and tells whom it was asked about."""

    def __init__(self, threat: Threat, name: str, tries: int, seen: list[Tensor] | None = None, **kept: Any) -> None:
        super().__init__(threat, **kept)
        self.name, self.tries, self.seen = name, tries, [] if seen is None else seen
        self.after: Callable[[], None] = lambda: None

    def search(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        self.after()
        self.seen.append(x)
        found = x.clone()
        for turn in range(self.tries):
            tried = self.threat.start(x, (2 * draws.uniform(*x.shape[1:], first=16 * turn) - 1).to(x))
            wrong = model(tried).argmax(1) != y
            found[wrong] = tried[wrong]
        return found


class Ours(AutoAttack):
    """The same, of other attacks."""

    def __init__(self, *attacks: Attack, memory: int = 2**30) -> None:
        super().__init__(attacks[0].threat, memory=memory)
        self._attacks = list(attacks)

    def attacks(self, num_classes: int) -> list[Attack]:
        return self._attacks


def two(memory: int = 2**30) -> Ours:
    return Ours(Noise(LINF, "weak", 2), Noise(LINF, "strong", 30), memory=memory)


def same(one: Verdict, other: Verdict) -> None:
    torch.testing.assert_close(one.x_adv, other.x_adv, rtol=0, atol=1e-12)
    assert {name: rows.tolist() for name, rows in one.robust.items()} == {
        name: rows.tolist() for name, rows in other.robust.items()
    }


def test_each_attack_sees_what_the_ones_before_left() -> None:
    model = Tiny()
    x, y = pictures(model)
    attack = two()
    verdict = attack.run(model, x, y)
    assert list(verdict.robust) == ["clean", "weak", "strong"]
    left = [int(rows.sum()) for rows in verdict.robust.values()]
    assert 40 > left[0] > left[1] > left[2] > 0
    weak, strong = attack.attacks(5)
    assert isinstance(weak, Noise)
    assert isinstance(strong, Noise)
    assert [sum(map(len, a.seen)) for a in (weak, strong)] == left[:2]
    assert torch.equal(torch.cat(strong.seen), x[verdict.robust["weak"]])
    wrong = model(verdict.x_adv).argmax(1) != y
    assert torch.equal(wrong, ~verdict.right)
    assert LINF.permits(verdict.x_adv, x).all()
    unmoved = (verdict.x_adv == x).flatten(1).all(1)
    assert torch.equal(unmoved, ~verdict.robust["clean"] | verdict.right)


def test_a_verdict_hangs_on_no_batch_order_or_neighbour() -> None:
    model = Tiny()
    x, y = pictures(model)
    index = torch.arange(100, 140)
    whole = two().run(model, x, y, seed=3, index=index)
    same(two(memory=2000).run(model, x, y, seed=3, index=index), whole)
    order = torch.randperm(40)[:17]
    part = two().run(model, x[order], y[order], seed=3, index=index[order])
    torch.testing.assert_close(part.x_adv, whole.x_adv[order], rtol=0, atol=1e-12)
    assert torch.equal(part.right, whole.right[order])
    assert not torch.equal(two().run(model, x, y, seed=4, index=index).x_adv, whole.x_adv)


def test_passes_and_time_are_counted() -> None:
    model = Tiny()
    x, y = pictures(model)
    verdict = two().run(model, x, y)
    seen = int(verdict.robust["clean"].sum())
    assert verdict.work["weak"].forwards == 3 * seen  # two tries and a look at what they gave
    assert verdict.work["weak"].backwards == 0
    assert verdict.work["strong"].seconds > 0


class Away(Noise):
    """Leaves the threat, where everything is wrong."""

    def search(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        return 100 * torch.ones_like(x)


def test_a_point_outside_the_threat_breaks_nothing() -> None:
    model = Tiny()
    x, y = pictures(model)
    verdict = Ours(Away(LINF, "away", 0), Noise(LINF, "weak", 2)).run(model, x, y)
    assert torch.equal(verdict.robust["away"], verdict.robust["clean"])


class Killed(Exception):
    """What ends an evaluation in its middle."""


def test_one_that_was_killed_goes_on(tmp_path: Path) -> None:
    model = Tiny()
    x, y = pictures(model)
    expected = two().run(model, x, y, seed=1)
    attack = two(memory=2000)
    pieces = []

    def end_at_the_sixth() -> None:
        pieces.append(1)
        if len(pieces) == 6:
            raise Killed

    for each in attack.attacks(5):
        assert isinstance(each, Noise)
        each.after = end_at_the_sixth
    with pytest.raises(Killed):
        attack.run(model, x, y, seed=1, kept=tmp_path / "kept")
    kept = list((tmp_path / "kept").glob("*/*.safetensors"))
    assert len(kept) == 5
    kept[0].write_bytes(kept[0].read_bytes()[:50])  # one is damaged: attacked again
    known: list[Tensor] = []
    order = torch.randperm(40)  # shared out differently
    again = Ours(Noise(LINF, "weak", 2, known), Noise(LINF, "strong", 30, known), memory=3000)
    found = again.run(model, x[order], y[order], seed=1, index=order, kept=tmp_path / "kept")
    back = order.argsort()
    torch.testing.assert_close(found.x_adv[back], expected.x_adv, rtol=0, atol=1e-12)
    assert torch.equal(found.right[back], expected.right)
    attacked = sum(map(len, known))
    known.clear()
    assert torch.equal(again.run(model, x, y, seed=1, kept=tmp_path / "kept").right, expected.right)
    assert not known  # all is known
    assert attacked < sum(int(rows.sum()) for rows in list(expected.robust.values())[:2])


def test_what_was_found_of_another_model_is_not_seen(tmp_path: Path) -> None:
    model, other = Tiny(), Tiny(seed=1)
    x, y = pictures(model)
    stopped = two()
    last = stopped.attacks(5)[1]
    assert isinstance(last, Noise)

    def kill() -> None:
        raise Killed

    last.after = kill
    with pytest.raises(Killed):
        stopped.run(other, x, y, kept=tmp_path)
    same(two().run(model, x, y, kept=tmp_path), two().run(model, x, y))


def names(version: Any, num_classes: int, norm: str = "linf") -> list[str]:
    return [attack.name for attack in AutoAttack(Threat(norm, 0.1), version).attacks(num_classes)]


def test_the_plans_are_those_of_its_authors() -> None:
    assert names("standard", 10) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert names("plus", 10) == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    assert names("rand", 10) == ["apgd-ce", "apgd-dlr"]
    assert names("standard", 4, "l2") == ["apgd-ce", "apgd-t", "fab-t", "square"]


def test_few_classes_leave_out_what_is_not_defined(caplog: pytest.LogCaptureFixture) -> None:
    assert names("standard", 3) == ["apgd-ce", "apgd-dlr", "fab-t", "square"]
    assert names("plus", 3) == ["apgd-ce", "apgd-dlr", "fab", "square", "fab-t"]
    assert names("standard", 2) == ["apgd-ce", "fab-t", "square"]
    assert names("rand", 2) == ["apgd-ce"]
    assert "with 2 classes AutoAttack goes without apgd-dlr" in caplog.text


def test_an_unknown_version_is_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'standard'"):
        AutoAttack(LINF, "standrd")


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_breaks_at_least_what_pgd_does(norm: str) -> None:
    from poise.attacks.pgd import PGD

    model = Tiny()
    x, y = pictures(model)
    threat = Threat(norm, {"linf": 0.06, "l2": 0.2, "l1": 0.6}[norm])
    verdict = AutoAttack(threat).run(model, x, y)
    by_pgd = model(PGD(threat, steps=20)(model, x, y)).argmax(1) == y
    assert not (verdict.right & ~by_pgd).any()
    left = [int(rows.sum()) for rows in verdict.robust.values()]
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] < left[0]
    assert threat.permits(verdict.x_adv, x).all()
