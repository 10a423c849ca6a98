import torch

from poise.attacks.survivors import Found, Run, worst_of

X = torch.zeros(4, 1)


def run(point: float, loss: list[float], wrong: list[bool], seen: list[list[int]]) -> Run:
    """Finds the same point for all that are left, with these losses and verdicts by example."""

    def found(rows: torch.Tensor) -> Found:
        seen.append(rows.tolist())
        x_adv = torch.full((len(rows), 1), point)
        return Found(x_adv, torch.tensor(loss)[rows], torch.tensor(wrong)[rows])

    return found


def test_a_wrong_point_outranks_a_greater_loss_and_of_right_ones_the_greater_loss_is_kept() -> None:
    seen: list[list[int]] = []
    runs = [
        run(1.0, [5.0, 1.0, 5.0, 5.0], [True, False, False, False], seen),
        run(2.0, [9.0, 2.0, 1.0, 1.0], [True, False, True, False], seen),
    ]
    assert worst_of(X, runs).tolist() == [[1.0], [2.0], [2.0], [1.0]]
    assert seen == [[0, 1, 2, 3], [1, 2, 3]]


def test_no_run_follows_when_all_are_broken() -> None:
    seen: list[list[int]] = []
    all_wrong = run(1.0, [0.0] * 4, [True] * 4, seen)
    assert worst_of(X, [all_wrong, all_wrong]).tolist() == [[1.0]] * 4
    assert len(seen) == 1


def test_a_point_whose_loss_is_no_number_is_not_kept() -> None:
    assert worst_of(X, [run(1.0, [float("nan")] * 4, [False] * 4, [])]).tolist() == X.tolist()
