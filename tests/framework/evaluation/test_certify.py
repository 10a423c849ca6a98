from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from poise.distributed import current_ranks
from poise.errors import UserError
from poise.evaluation import kept_votes
from poise.evaluation.certificates import ABSTAINS
from poise.evaluation.certify import Certify, certificates
from poise.evaluation.votes import Ballot, evenly_spread, votes
from poise.evaluator import Subject
from poise.figures.certified import Certified
from poise.models.classifier import Classifier
from ranks import Pair
from smoothed import Linear, subject, too_many

SIGMA, ALPHA = 0.5, 0.05


def line(distances: Tensor, seed: int = 0) -> Subject:
    """Two classes on the sides of a plane in five dimensions, and examples at these distances from it, right off it."""
    weight = torch.tensor([3.0, -1.0, 0.5, 0.0, 2.0])
    normal = weight / weight.norm()
    x = torch.zeros(len(distances), 5) + 0.3 * torch.tensor([1.0, 1.0, 0.0, 5.0, -1.0])  # a point of the plane
    model = Linear(torch.stack([torch.zeros(5), weight]), torch.zeros(2))
    label = torch.where(distances == 0, torch.arange(len(distances)) % 2, distances > 0)
    return subject(model, x + distances[:, None] * normal, label, 2, seed)


def test_on_two_sides_of_a_plane_the_radius_is_the_distance() -> None:
    distances = torch.linspace(-1.2, 1.2, 12)
    here = line(distances)
    first, second = votes(here, torch.arange(12), (Ballot("a", 1000, SIGMA), Ballot("b", 20_000, SIGMA)), "").unbind(1)
    found = certificates(first, second, 20_000, here.splits.test.label, SIGMA, 0.001)
    assert found.right.all()
    assert (found.radius <= distances.abs()).all()
    # four standard errors of the share, and what the bound takes off it, in units of the radius
    p = stats.norm.cdf(distances.abs() / SIGMA)
    error = (p * (1 - p) / 20_000) ** 0.5 / stats.norm.pdf(distances.abs() / SIGMA)
    assert (found.radius > distances.abs() - SIGMA * (4 + 3.1) * torch.from_numpy(error) - 1e-3).all()


def test_of_several_classes_the_radius_is_that_of_the_true_probability_at_most() -> None:
    centres = torch.tensor([-2.0, 0.0, 1.0])
    model = Linear(centres[:, None], -centres.square() / 2)  # the nearest centre wins: borders at -1 and 0.5
    x = torch.tensor([[-0.3], [0.1], [1.5]])
    here = subject(model, x, torch.tensor([1, 1, 2]), 3)
    borders = torch.tensor([[-1.0, 0.5], [-1.0, 0.5], [0.5, torch.inf]])
    low, high = (stats.norm.cdf((border - x[:, 0]) / SIGMA) for border in borders.T)
    exact = SIGMA * torch.from_numpy(stats.norm.ppf(high - low))
    first, second = votes(here, torch.arange(3), (Ballot("a", 1000, SIGMA), Ballot("b", 20_000, SIGMA)), "").unbind(1)
    found = certificates(first, second, 20_000, here.splits.test.label, SIGMA, 0.001)
    assert found.predicted.tolist() == [1, 1, 2]
    assert (found.radius <= exact).all()
    assert (found.radius > exact - 0.05).all()
    for moved in (x[:, 0] - exact, x[:, 0] + exact):  # the smoothed classifier still gives the class there
        low, high = (stats.norm.cdf((border - moved) / SIGMA) for border in borders.T)
        assert (high - low >= 0.5 - 1e-9).all() or (found.predicted == 2).any()


def test_certificates_are_wrong_in_a_share_of_alpha_at_most_and_in_more_where_copies_are_counted_twice() -> None:
    trials, copies = 1500, 100
    here = line(torch.zeros(trials), seed=7)  # on the plane, where the true radius is 0 and any certificate is wrong
    ballots = (Ballot("a", copies, SIGMA), Ballot("b", copies, SIGMA))
    first, second = votes(here, torch.arange(trials), ballots, "").unbind(1)

    def wrong(selection: Tensor, estimation: Tensor) -> int:
        found = certificates(selection, estimation, copies, here.splits.test.label, SIGMA, ALPHA)
        return int((found.predicted != ABSTAINS).sum())

    assert not too_many(wrong(first, second), trials, ALPHA)
    assert not too_many(wrong(second, first), trials, ALPHA)
    assert too_many(wrong(first, first), trials, ALPHA)


@pytest.mark.parametrize("probability", [0.5, 0.6, 0.9, 0.999])
def test_radii_are_too_large_in_a_share_of_alpha_at_most(probability: float) -> None:
    trials, copies = 20_000, 200
    hits = torch.from_numpy(stats.binom.rvs(copies, probability, size=trials, random_state=1))
    estimation = torch.stack([hits, copies - hits], 1)
    selection = torch.tensor([[1, 0]]).expand(trials, 2)
    found = certificates(selection, estimation, copies, torch.zeros(trials).long(), SIGMA, ALPHA)
    true = SIGMA * stats.norm.ppf(probability)
    assert not too_many(int(((found.radius > true) & found.right).sum()), trials, ALPHA)
    optimistic = SIGMA * torch.from_numpy(stats.norm.ppf(hits / copies))  # a share is no bound
    assert too_many(int((optimistic > true).sum()), trials, ALPHA)


def found(here: Subject) -> tuple[dict[str, float], tuple[float, ...]]:
    evaluated = Certify(SIGMA, n0=20, n=200, examples=9, radii=(0.0, 0.3, 9.0)).evaluate(here)
    drawing = evaluated.figures["test-certified-accuracy"]
    assert isinstance(drawing, Certified)
    return evaluated.metrics, drawing.radii


def test_metrics_are_those_of_the_curve_and_radii_that_nothing_proves_are_left_out() -> None:
    metrics, radii = found(line(torch.linspace(-1, 1, 24)))
    assert set(metrics) == {
        "test/certified_accuracy/0",
        "test/certified_accuracy/0.3",
        "test/average_certified_radius",
        "test/abstention_rate",
        "test/smoothed_accuracy",
    }
    assert metrics["test/certified_accuracy/0"] == pytest.approx(len(radii) / 9)
    assert metrics["test/certified_accuracy/0.3"] == pytest.approx(sum(radius >= 0.3 for radius in radii) / 9)
    assert metrics["test/average_certified_radius"] == pytest.approx(sum(radii) / 9)
    assert metrics["test/smoothed_accuracy"] >= metrics["test/certified_accuracy/0"]


def found_here() -> tuple[dict[str, float], tuple[float, ...]]:
    """On the ranks that there are."""
    return found(replace(line(torch.linspace(-1, 1, 24)), ranks=current_ranks()))


def test_neither_batch_size_nor_ranks_change_anything(pair: Pair) -> None:
    here = line(torch.linspace(-1, 1, 24))
    expected = found(here)
    assert found(replace(here, batch_size=7)) == expected
    assert pair.run(found_here) == [expected, expected]
    assert found(replace(here, seed=1)) != expected


def test_an_example_draws_the_same_whichever_others_are_certified() -> None:
    here = line(torch.linspace(-1, 1, 24))
    ballot = [Ballot("a", 30, SIGMA)]
    every = votes(here, torch.arange(24), ballot, "")
    some = evenly_spread(here, 5)
    assert some.tolist() == [0, 4, 9, 14, 19]
    assert torch.equal(votes(here, some, ballot, ""), every[some])
    assert evenly_spread(here, 100).tolist() == list(range(24))


def test_noise_is_of_the_size_said_and_not_clipped() -> None:
    seen: list[Tensor] = []
    here = subject(Linear(torch.zeros(2, 16), torch.zeros(2)), torch.ones(2, 1, 4, 4), torch.tensor([0, 1]), 2)
    here.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0] - 1))
    votes(here, torch.arange(2), (Ballot("a", 250, SIGMA),), "")
    assert [len(part) for part in seen] == [100, 100, 50] * 2
    noise = torch.cat(seen)
    assert noise.mean().abs() < 5 * SIGMA / noise.numel() ** 0.5
    assert (noise.std() / SIGMA - 1).abs() < 5 / (2 * noise.numel()) ** 0.5
    assert len(noise.unique(dim=0)) == 500


class Killed(Exception):
    """In place of a signal."""


def test_votes_that_were_counted_before_a_kill_are_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_votes, "OFTEN", 0.0)
    here = replace(line(torch.linspace(-1, 1, 24)), kept=tmp_path)
    ballot, passes, most = [Ballot("a", 30, SIGMA)], list[int](), 10

    def counted(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(passes) == most:
            raise Killed
        passes.append(len(inputs[0]))

    expected = votes(replace(here, kept=None), torch.arange(24), ballot, "")
    handle = here.model.register_forward_pre_hook(counted)
    with pytest.raises(Killed):
        votes(here, torch.arange(24), ballot, "")
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    most = 24
    assert torch.equal(votes(here, torch.arange(24), ballot, ""), expected)
    assert len(passes) == 24
    assert not list(tmp_path.iterdir())
    handle.remove()
    for damaged in (whole[:50], whole.replace(b"votes", b"votez")):
        file.parent.mkdir()
        file.write_bytes(damaged)
        assert torch.equal(votes(here, torch.arange(24), ballot, ""), expected)
    file.parent.mkdir()
    file.write_bytes(whole)  # of other noise nothing is taken
    other = votes(here, torch.arange(24), [Ballot("a", 30, 2 * SIGMA)], "")
    assert torch.equal(other, votes(replace(here, kept=None), torch.arange(24), [Ballot("a", 30, 2 * SIGMA)], ""))
    assert file.exists()


class Broken(Linear):
    """Half of the logits that are given are no numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).masked_fill(x.flatten(1)[:, :1] > x.flatten(1)[:, :1].mean(), torch.nan)


def test_logits_that_are_no_numbers_count_for_no_class() -> None:
    here = line(torch.tensor([1.0, -1.0]))
    weights = here.model.backbone
    assert isinstance(weights, Linear)
    broken = replace(here, model=Classifier(Broken(weights.weight.detach(), weights.bias.detach()), nn.Identity()))
    metrics = Certify(SIGMA, examples=2).evaluate(broken).metrics
    assert metrics["test/abstention_rate"] == 1


def test_a_model_that_was_not_trained_for_the_noise_is_told_of() -> None:
    here = line(torch.linspace(-1, 1, 24))
    fit = Certify(SIGMA, examples=24).evaluate(here)
    assert fit.doubts == ()
    assert fit.notes == (
        "Certified by randomized smoothing: 24 test examples, sigma = 0.5, n = 1,000, alpha = 0.001 for each.",
    )
    (doubt,) = Certify(50.0, examples=24).evaluate(here).doubts
    assert doubt.startswith("0.0 % of the examples are certified right at all, and 100.0 % are got right as they are")
    assert "hardly trained on inputs in noise of sigma=50." in doubt
    assert doubt.endswith("or set evaluation.certify.sigma to the noise that it was trained with")


def test_copies_that_prove_nothing_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="set n to 10 or more"):
        Certify(n=9)
