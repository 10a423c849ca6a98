"""A learning rate that does not change."""


def constant(progress: float) -> float:
    """Factor on the learning rate: always 1.

    Args:
        progress: share of the run done, in [0, 1].
    """
    return 1.0
