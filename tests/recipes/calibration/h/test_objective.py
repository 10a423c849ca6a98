import numpy as np
import pytest
import torch
from torch import Tensor

from held_out import calibrated_logits, events
from poise_recipes.calibration.h import objective
from poise_recipes.calibration.h.clusters import CLUSTERS, cluster_sizes
from poise_recipes.calibration.h.objective import h_loss


def directly(probability: Tensor, occurred: Tensor, window: int, tolerance: float = 0.0) -> tuple[float, Tensor]:
    """The loss and its gradient, one window after the other."""
    order = probability.numpy().argsort(kind="stable")
    gaps = (probability.double().numpy() - occurred.double().numpy())[order]
    half, size = window // 2, len(gaps)
    windows = [range(max(j - half, 0), min(j + half + 1, size)) for j in range(size)]
    means = [sum(gaps[t] for t in inside) / (2 * half + 1) for inside in windows]
    sizes = cluster_sizes(probability[order]).tolist()
    cluster = [k for k, held in enumerate(sizes) for _ in range(held)]
    loss = sum(
        sum(max(abs(m) - tolerance, 0) for m, c in zip(means, cluster, strict=True) if c == k) / max(n, 1)
        for k, n in enumerate(sizes)
    )
    gradient = torch.zeros(size, dtype=torch.float64)
    for j, inside in enumerate(windows):
        if abs(means[j]) > tolerance:
            gradient[order[list(inside)]] += np.sign(means[j]) / sizes[cluster[j]] / CLUSTERS / (2 * half + 1)
    return loss / CLUSTERS, gradient


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
@pytest.mark.parametrize(("size", "classes", "window"), [(60, 5, 41), (60, 5, 40), (7, 3, 201), (100, 2, 1), (2, 2, 0)])
def test_the_loss_and_its_gradient_are_what_windows_one_by_one_give(
    size: int, classes: int, window: int, tolerance: float
) -> None:
    probability, occurred = events(calibrated_logits(size, classes), inverse=1.7)
    loss, slope = h_loss(probability, occurred, window, tolerance)
    wanted, gradient = directly(probability, occurred, window, tolerance)
    assert float(loss) == pytest.approx(wanted, abs=1e-12)
    torch.testing.assert_close(slope, gradient.float(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_piece_by_piece_it_is_the_same(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    probability, occurred = events(calibrated_logits(60, 5), inverse=1.7)
    loss, slope = h_loss(probability, occurred, 41)
    monkeypatch.setattr(objective, "PIECE", piece)
    in_pieces, slope_in_pieces = h_loss(probability, occurred, 41)
    torch.testing.assert_close(in_pieces, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(slope_in_pieces, slope, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("values", [[0.5, 0.0, 0.5, 1.0, 0.0, 0.5], [1e-40, 0.0, 1e-38, 1e-39]])
def test_equal_probabilities_keep_their_order(values: list[float]) -> None:
    probability = torch.tensor(values)
    for occurred in torch.eye(len(values)).bool():
        assert float(h_loss(probability, occurred, 1)[0]) == pytest.approx(
            directly(probability, occurred, 1)[0], abs=1e-12
        )


def test_the_loss_is_that_of_the_authors_on_the_same_clusters() -> None:
    """Their formula in a few plain operations: padded windows by convolution, clusters by membership."""
    probability, occurred = events(calibrated_logits(400, 5), inverse=1.7)
    order = probability.argsort(stable=True)
    gap = (probability.double() - occurred.double())[order]
    mean = torch.conv1d(gap[None, None], torch.full((1, 1, 201), 1 / 201, dtype=torch.float64), padding=100)[0, 0]
    excess = torch.relu(mean.abs() - 1e-20)
    sizes = cluster_sizes(probability[order])
    member = torch.arange(CLUSTERS).repeat_interleave(sizes) == torch.arange(CLUSTERS)[:, None]
    theirs = ((excess * member).sum(1) / (member.sum(1) + 1e-5)).mean()
    assert float(h_loss(probability, occurred, 201)[0]) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("prior", [[0.0, 0.0, 0.0], [4.5, 0.0, 0.0]], ids=["balanced", "unbalanced"])
def test_calibrated_probabilities_have_the_least_loss(prior: list[float]) -> None:
    made = calibrated_logits(20000, 3, prior=torch.tensor(prior))
    losses = {}
    for inverse in (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5):
        losses[inverse] = float(h_loss(*events(made, inverse), 201)[0])
    assert min(losses, key=lambda inverse: losses[inverse]) == 1.0


def test_a_tolerance_that_nothing_exceeds_leaves_no_loss() -> None:
    loss, slope = h_loss(*events(calibrated_logits(60, 5), inverse=1.7), 41, tolerance=0.999)
    assert loss == 0
    assert not slope.any()
