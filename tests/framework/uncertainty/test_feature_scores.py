import inspect
from typing import Any

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
    with pytest.raises(UserError, match=r"need integer labels \[90\], not torch.int64 \(3,\)"):
        Mahalanobis().fit(TRAIN, LABEL[:3])
    with pytest.raises(UserError, match=r"floating point \[N, D\], not torch.int64 \(90,\)"):
        NearestNeighbours(1).fit(LABEL)
    look = inspect.unwrap(Mahalanobis.fit)  # without the checker of annotations, which would speak first
    with pytest.raises(UserError, match=r"^90 rows of features need integer labels \[90\], not torch.float32 \(90,\)"):
        look(Mahalanobis(), TRAIN, LABEL.float())
    with pytest.raises(UserError, match=r"^Example 0 of these features has a label below 0 \(30 of 90 do\)"):
        Mahalanobis().fit(TRAIN, LABEL - 1)
    with pytest.raises(UserError, match=r"^features is of type ndarray"):
        look(Mahalanobis(), TRAIN.numpy(), LABEL)


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_a_neighbour_has_a_number_from_one_on(k: Any) -> None:
    with pytest.raises(UserError, match=rf"^k={k} of NearestNeighbours is not a whole number >= 1"):
        inspect.unwrap(NearestNeighbours.__init__)(object.__new__(NearestNeighbours), k)


@pytest.mark.parametrize(
    ("score", "fitted"),
    [(Mahalanobis(), Mahalanobis().fit(TRAIN, LABEL)), (NearestNeighbours(1), NearestNeighbours(1).fit(TRAIN))],
)
def test_scores_are_asked_of_features_like_those_they_are_fitted_to(score: Any, fitted: Any) -> None:
    name, look = type(score).__name__, inspect.unwrap(type(score).__call__)
    with pytest.raises(UserError, match=rf"^{name} is not fitted: call its fit first"):
        score(TEST)
    for other in (TEST[:, :4], TEST[0], TEST.long()):
        with pytest.raises(UserError, match=rf"^{name} was fitted to features of width 5 and takes float features"):
            look(fitted, other)
