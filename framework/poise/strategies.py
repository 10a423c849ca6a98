"""The names of strategies, and what may go with them."""

import importlib.util

from poise.errors import UserError, nearest

ZERO = tuple(f"deepspeed_zero{stage}{offload}" for offload in ("", "_offload") for stage in (1, 2, 3))
STRATEGIES = ("auto", "ddp", *ZERO)
PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def is_zero(name: str) -> bool:
    """Whether DeepSpeed trains."""
    return name.startswith("deepspeed")


def zero_stage(name: str) -> int:
    """1, 2 or 3 of DeepSpeed's ZeRO; 0 where every rank holds everything."""
    return int(name.removesuffix("_offload")[-1]) if is_zero(name) else 0


def check_strategy(name: str, precision: str) -> None:
    """Refuse what cannot train, without importing anything heavy.

    Raises:
        UserError: an unknown strategy or precision, fp16, float64 under DeepSpeed, no DeepSpeed installed.
    """
    check_precision(name, precision)
    if is_zero(name) and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"strategy={name} needs DeepSpeed, which is not installed: launch/setup.sh deepspeed in a checkout, "
            f"pip install deepspeed elsewhere; or use strategy=ddp."
        )


def check_precision(name: str, precision: str) -> None:
    """Refuse what no machine can train.

    Raises:
        UserError: an unknown strategy or precision, fp16, float64 under DeepSpeed.
    """
    _check_names(name, precision)
    if is_zero(name) and precision == "64-true":
        raise UserError(
            f"strategy={name} trains in float32: set trainer.precision to 32-true or bf16-mixed, or use "
            f"strategy=ddp for 64-true."
        )


def _check_names(name: str, precision: str) -> None:
    if name not in STRATEGIES:
        allowed = ", ".join(STRATEGIES)
        raise UserError(f"strategy={name} is not known; it is one of {allowed}.{nearest(name, STRATEGIES)}")
    if precision.startswith("16"):
        raise UserError(
            f"trainer.precision={precision}: poise does not train in float16, whose gradients inside a step "
            f"(an attack's, a weight perturbation's) would be unscaled. Use bf16-mixed or 32-true."
        )
    if precision not in PRECISIONS:
        allowed = ", ".join(PRECISIONS) + "." + nearest(precision, PRECISIONS)
        raise UserError(f"trainer.precision={precision} is not known; it is one of {allowed}")
