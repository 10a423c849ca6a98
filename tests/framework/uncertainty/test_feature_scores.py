import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from poise.errors import UserError
from poise.uncertainty import mahalanobis, nearest_neighbours
from poise.uncertainty.mahalanobis import Mahalanobis
from poise.uncertainty.nearest_neighbours import NearestNeighbours


def drawn(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


TRAIN, LABEL = drawn(90, 5, 0) @ drawn(5, 5, 1), torch.arange(90) % 3
TEST = 2 * drawn(20, 5, 2)


def test_mahalanobis_is_the_distance_to_the_nearest_mean_by_the_inverse() -> None:
    train, means = TRAIN.double(), torch.stack([TRAIN[c == LABEL].double().mean(0) for c in range(3)])
    spread = EmpiricalCovariance(assume_centered=True).fit((train - means[LABEL]).numpy())
    squared = torch.stack([torch.from_numpy(spread.mahalanobis((TEST - mean).double().numpy())) for mean in means])
    expected = squared.amin(0) / 2
    found = Mahalanobis().fit(TRAIN, LABEL)(TEST)
    assert torch.allclose(found, expected, rtol=1e-4)  # which is what the ridge changes at most


def test_mahalanobis_does_not_hang_on_the_scale_of_a_feature() -> None:
    scale = torch.tensor([1.0, 3.0, 0.5, 10.0, 2.0])
    found = Mahalanobis().fit(TRAIN * scale, LABEL)(TEST * scale)
    assert torch.allclose(found, Mahalanobis().fit(TRAIN, LABEL)(TEST), rtol=1e-3)


def test_mahalanobis_takes_features_that_never_vary_and_classes_that_are_missing() -> None:
    train = torch.cat([TRAIN, torch.zeros(90, 2)], 1)
    test = torch.cat([TEST, torch.zeros(20, 2)], 1)
    found = Mahalanobis().fit(train, 7 * LABEL)(test)
    assert torch.allclose(found, Mahalanobis().fit(TRAIN, LABEL)(TEST), rtol=1e-4)
    assert Mahalanobis().fit(torch.ones(4, 2), torch.arange(4))(torch.tensor([[1.0, 1.0], [1.0, 3.0]])).tolist() == [
        0,
        2,
    ]


@pytest.mark.parametrize("k", [1, 7, 90])
def test_the_distance_is_that_of_scikit_learn(k: int) -> None:
    scaled, queries = (x / x.norm(dim=1, keepdim=True) for x in (TRAIN.double(), TEST.double()))
    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(scaled.numpy()).kneighbors(queries.numpy())
    assert torch.allclose(NearestNeighbours(k).fit(TRAIN)(TEST).double(), torch.from_numpy(distances[:, -1]), atol=1e-6)


def test_features_of_length_zero_are_far_and_not_lost() -> None:
    found = NearestNeighbours(1).fit(TRAIN)(torch.zeros(1, 5))
    assert found.tolist() == pytest.approx([1.0])


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Mahalanobis().fit(TRAIN, LABEL)(TEST), NearestNeighbours(3).fit(TRAIN)(TEST)
    for module in (mahalanobis, nearest_neighbours):
        monkeypatch.setattr(module, "PIECE", 100)
    parts = Mahalanobis().fit(TRAIN, LABEL)(TEST), NearestNeighbours(3).fit(TRAIN)(TEST)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-6)


def test_what_nothing_can_be_fitted_to_is_refused() -> None:
    with pytest.raises(UserError, match="no neighbour number 91 among 90 examples"):
        NearestNeighbours(91).fit(TRAIN)
    with pytest.raises(UserError, match="have to be finite"):
        Mahalanobis().fit(TRAIN * torch.inf, LABEL)
    with pytest.raises(UserError, match=r"need labels \[90\], not \(3,\)"):
        Mahalanobis().fit(TRAIN, LABEL[:3])
    with pytest.raises(UserError, match=r"floating point \[N, D\], not torch.int64 \(90,\)"):
        NearestNeighbours(1).fit(LABEL)
