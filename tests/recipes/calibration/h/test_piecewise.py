import torch

from poise_recipes.calibration.h.piecewise import Piecewise


def test_a_thousand_lines_rise_at_every_knot() -> None:
    """The released formula falls at 42 of 99 knots for such slopes."""
    family, draws = Piecewise(100), torch.Generator().manual_seed(0)
    knots = torch.arange(1, 100, dtype=torch.float64)
    u = torch.stack([knots - 1e-6, knots + 1e-6, torch.full_like(knots, 500.0)])
    for _ in range(1000):
        parameters = (0.5 + torch.rand(100, generator=draws, dtype=torch.float64)).log()
        before, after, _ = family.log_probabilities(-u, parameters)
        assert (before > after).all()
        assert (before - after < 1e-5).all()


def test_one_segment_is_one_temperature() -> None:
    log_p = torch.randn(4, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(0)
    found = Piecewise(1).log_probabilities(log_p, torch.tensor([2.0], dtype=torch.float64).log())
    torch.testing.assert_close(found, (2 * log_p).log_softmax(0))
