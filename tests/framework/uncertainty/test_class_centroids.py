import pytest
import torch
from sklearn.neighbors import NearestCentroid

from poise.errors import UserError
from poise.uncertainty.class_centroids import AGREES, ClassCentroids

FEATURES = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
LABEL = torch.arange(60) % 3
TEST = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))


def test_it_is_below_one_half_where_the_nearest_mean_is_of_the_predicted_class() -> None:
    nearest = torch.from_numpy(NearestCentroid().fit(FEATURES.numpy(), LABEL.numpy()).predict(TEST.numpy()))
    predicted = torch.arange(40) % 3
    found = ClassCentroids().fit(FEATURES, LABEL, 3)(TEST, predicted)
    assert torch.equal(found < AGREES, nearest == predicted)
    assert 0 < int((nearest == predicted).sum()) < 40


def test_it_is_the_share_of_the_two_distances() -> None:
    centroids = ClassCentroids().fit(
        torch.tensor([[0.0, 1.0], [0.0, -1.0], [4.0, 0.0], [0.0, 9.0]]), LABEL[[0, 0, 1, 2]], 3
    )
    found = centroids(torch.tensor([[1.0, 0.0], [1.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 1, 1]))
    assert found.tolist() == pytest.approx([1 / (1 + 3), 3 / (3 + 1), 0.0])


def test_a_class_without_examples_is_nowhere() -> None:
    centroids = ClassCentroids().fit(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 2]), 4)
    found = centroids(torch.tensor([[0.5], [0.5], [1.0]]), torch.tensor([0, 1, 3]))
    assert found.tolist() == pytest.approx([0.25, 1.0, 1.0])
    assert centroids.nowhere == 2


def test_a_single_class_has_no_other_to_be_nearer_to() -> None:
    with pytest.raises(UserError, match=r"^class centroids need examples of two classes or more: these are all of one"):
        ClassCentroids().fit(torch.rand(5, 3), torch.full((5,), 1), 3)


def test_an_example_on_two_means_is_even() -> None:
    centroids = ClassCentroids().fit(torch.zeros(2, 3), torch.tensor([0, 1]), 2)
    assert centroids(torch.zeros(1, 3), torch.tensor([0])).tolist() == [AGREES]


def test_labels_and_predictions_are_classes() -> None:
    features = torch.rand(4, 3)
    with pytest.raises(
        UserError, match=r"^Example 2 of what ClassCentroids takes has a label outside 0…2 \(1 of 4 do\)"
    ):
        ClassCentroids().fit(features, torch.tensor([0, 1, 3, 2]), 3)
    fitted = ClassCentroids().fit(features, torch.tensor([0, 1, 1, 2]), 3)
    with pytest.raises(UserError, match=r"^Example 0 of what ClassCentroids takes has a label outside 0…2"):
        fitted(features[:1], torch.tensor([-1]))
    with pytest.raises(UserError, match="^ClassCentroids is not fitted: call its fit first"):
        ClassCentroids()(features, torch.zeros(4).long())
