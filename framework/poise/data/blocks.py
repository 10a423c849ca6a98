"""Do the batch, the blocks, the ranks and the micro-batches divide into each other?"""

import math

from poise.errors import UserError

BLOCKS = (16, 8, 4, 2, 1)


def default_block(batch_size: int) -> int:
    """The largest of 16, 8, 4, 2, 1 that divides the batch size, whatever the ranks."""
    return math.gcd(batch_size, BLOCKS[0])


def check_sizes(batch_size: int, ranks: int, accumulate: int, block: int) -> int:
    """The examples of one micro-batch on one rank: a multiple of `block`.

    Args:
        batch_size: examples of one optimiser step, over ranks and micro-batches.
        ranks: processes that train together.
        accumulate: micro-batches of one optimiser step.
        block: consecutive examples that are never split between ranks or micro-batches.

    Raises:
        UserError: the sizes do not fit; says which do.
    """
    given = {"batch_size": batch_size, "ranks": ranks, "accumulate": accumulate, "block": block}
    for name, value in given.items():
        if value < 1:
            raise UserError(f"{name}={value} must be 1 or more.")
    parts = ranks * accumulate
    if batch_size % (parts * block):
        raise UserError(_misfit(batch_size, ranks, accumulate, block))
    return batch_size // parts


def _misfit(batch_size: int, ranks: int, accumulate: int, block: int) -> str:
    parts = ranks * accumulate
    whole = batch_size % parts == 0
    share = f"{batch_size // parts}" if whole else f"about {batch_size / parts:,.1f}"
    over = f"{ranks} rank{'s' * (ranks > 1)}"
    each = "a rank"
    if accumulate > 1:
        over, each = f"{over} and {accumulate} micro-batches", "a rank and micro-batch"
    fits = []
    if batch_size % (accumulate * block) == 0:
        fits.append(f"{', '.join(map(str, _divisors(batch_size // (accumulate * block))))} ranks")
    fits.append(f"trainer.batch_size={math.ceil(batch_size / (parts * block)) * parts * block}")
    if whole:
        fits.append(f"trainer.block={default_block(batch_size // parts)} (other draws: another run)")
    *others, last = fits
    ways = "; ".join([*others, f"or {last}"]) if others else last
    problem = f"batch_size={batch_size} over {over} is {share} {each}, not a multiple of block={block}"
    return f"{problem}. Fits: {ways}"


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
