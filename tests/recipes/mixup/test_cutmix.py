"""CutMix's boxes and what they do to a batch."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import Batch, RecipeStack, Step
from poise_recipes import CutMix, Mixup, SupCon
from poise_recipes.mixup.cutmix import boxes

MODEL = nn.Sequential(nn.Flatten(), nn.Linear(70, 3))


def batch(height: int = 7, width: int = 5, n: int = 16) -> Batch:
    """Each picture and its view have a value of their own at every pixel of each channel."""
    x = torch.arange(n * 2 * height * width, dtype=torch.float64).view(n, 2, height, width)
    label = torch.arange(n) % 3
    return Batch.of(x, label, num_classes=3, index=torch.arange(n) + 100, views=(x + 0.5,))


@given(
    alpha=st.floats(0.05, 20),
    probability=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
    block=st.sampled_from([0, 2, 4, 8]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_a_mix_pastes_one_box_of_a_partner_and_shares_the_target_by_its_area(
    alpha: float, probability: float, seed: int, block: int, height: int, width: int
) -> None:
    b = batch(height, width)
    mixed = CutMix(alpha, probability).mix(b, Step(MODEL, seed=seed, block=block))
    partner = mixed.parents[:, 1] - 100
    assert (partner != torch.arange(16)).all()
    assert torch.equal(partner // (block or 16), torch.arange(16) // (block or 16))
    pasted = mixed.x != b.x
    assert torch.equal(mixed.x, torch.where(pasted, b.x[partner], b.x))
    assert torch.equal(mixed.views[0], torch.where(pasted, b.views[0][partner], b.views[0]))
    assert torch.equal(pasted, pasted.any(2, keepdim=True) & pasted.any(3, keepdim=True))
    for axis in (pasted.any(3)[:, 0], pasted.any(2)[:, 0]):
        assert (axis.int().diff(dim=1).abs().sum(1) <= 2).all(), "one run of pixels"
    own = 1 - pasted.sum((1, 2, 3), dtype=torch.float64) / (2 * height * width)
    torch.testing.assert_close(mixed.share, torch.stack([own, 1 - own], 1))
    torch.testing.assert_close(mixed.target, own[:, None] * b.target + (1 - own[:, None]) * b.target[partner])
    torch.testing.assert_close(mixed.target.sum(1), torch.ones(16, dtype=torch.float64))
    assert torch.equal(mixed.label, b.label)
    assert probability > 0 or torch.equal(mixed.x, b.x)


def box_by_hand(size: int, ratio: float, centre: int) -> tuple[int, int]:
    """One axis of the authors' box: half of the whole-numbered side to each side of the centre, cut at the border."""
    half = int(size * ratio) // 2
    return max(centre - half, 0), min(centre + half, size)


def test_boxes_are_the_authors() -> None:
    height, width = 7, 5
    grid = [(share, y, x) for share in np.linspace(0, 1, 23) for y in range(height) for x in range(width)]
    share = torch.tensor([share for share, _, _ in grid])
    centre = torch.tensor([[(y + 0.3) / height, (x + 0.7) / width] for _, y, x in grid], dtype=torch.float64)
    found = boxes(share, centre, height, width)
    for box, (lam, y, x) in zip(found, grid, strict=True):
        expected = np.zeros((height, width), dtype=bool)
        top, bottom = box_by_hand(height, np.sqrt(1 - lam), y)
        left, right = box_by_hand(width, np.sqrt(1 - lam), x)
        expected[top:bottom, left:right] = True
        assert np.array_equal(box[0].numpy(), expected)


def test_areas_are_distributed_as_the_authors_are() -> None:
    generator = np.random.default_rng(0)
    expected = []
    for lam, y, x in zip(generator.beta(0.2, 0.2, 20_000), *generator.integers(32, size=(2, 20_000)), strict=True):
        (top, bottom), (left, right) = (box_by_hand(32, np.sqrt(1 - lam), c) for c in (y, x))
        expected.append(1 - (bottom - top) * (right - left) / 32**2)
    pictures = Batch.of(torch.zeros(4096, 1, 32, 32), torch.arange(4096) % 2, num_classes=2, index=torch.arange(4096))
    mixed = CutMix(0.2).mix(pictures, Step(MODEL))
    found = mixed.share[:, 0].numpy()
    # standard deviations of these two: 0.006 and 0.006
    assert abs(found.mean() - np.mean(expected)) < 0.025
    assert abs((found == 1).mean() - (np.array(expected) == 1).mean()) < 0.025


def test_about_the_given_share_of_rows_is_mixed() -> None:
    pictures = Batch.of(torch.zeros(2048, 1, 8, 8), torch.arange(2048) % 2, num_classes=2, index=torch.arange(2048))
    always, half = (CutMix(5.0, p).mix(pictures, Step(MODEL)).share for p in (1.0, 0.5))
    kept = always[:, 0][half[:, 0] < 1]
    torch.testing.assert_close(kept, half[:, 0][half[:, 0] < 1])
    # mixed at all by `always`: all but the boxes of less than two pixels
    assert abs((half[:, 0] < 1).float().mean() / (always[:, 0] < 1).float().mean() - 0.5) < 0.05


def test_mixers_come_after_who_adds_views() -> None:
    assert RecipeStack([CutMix(), Mixup(), SupCon()]).names == ("sup_con", "cutmix", "mixup")
