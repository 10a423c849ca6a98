"""How many resamples an interval needs."""

FEWEST = 100


def too_few(resamples: int) -> str:
    """Why there are no intervals from so few resamples, as the end of a sentence; "" of enough, or of 0, for none.

    An interval of 95 % ends where 1 resample in 40 lies beyond. Of 100 the chance of the draws moves such an end by a
    seventh of half the interval (a standard error of 0.27 standard deviations), of 1,000 by a twentieth.

    Args:
        resamples: their number.
    """
    if not 0 < resamples < FEWEST:
        return ""
    return (
        f"1 resample in 40 lies beyond each end of a 95 % interval, so {resamples} do not tell where it is: give "
        f"{FEWEST} or more, 1000 for ends that hardly move, or 0 for no intervals"
    )
