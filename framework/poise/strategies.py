"""The names of strategies, what may go with them, and DeepSpeed's settings as JSON files say them."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from poise import data_files
from poise.errors import UserError, nearest

ZERO = tuple(f"deepspeed_zero{stage}{offload}" for offload in ("", "_offload") for stage in (1, 2, 3))
STRATEGIES = ("auto", "ddp", *ZERO)
PRECISIONS = ("32-true", "64-true", "bf16-mixed")

OURS = {
    "train_batch_size": "trainer.batch_size",
    "train_micro_batch_size_per_gpu": "trainer.batch_size and trainer.accumulate",
    "gradient_accumulation_steps": "trainer.accumulate",
    "gradient_clipping": "trainer.gradient_clip",
    "fp16": "trainer.precision",
    "bf16": "trainer.precision",
    "torch_autocast": "trainer.precision",
    "optimizer": "optimizer",
    "scheduler": "schedule",
}  # keys of DeepSpeed's by what says the same here


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
    _check_names(name, precision)
    if not is_zero(name):
        return
    if precision == "64-true":
        raise UserError(
            f"strategy={name} trains in float32: set trainer.precision to 32-true or bf16-mixed, or use "
            f"strategy=ddp for 64-true."
        )
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"strategy={name} needs DeepSpeed, which is not installed: launch/setup.sh deepspeed in a checkout, "
            f"pip install deepspeed elsewhere; or use strategy=ddp."
        )


def zero_settings(name: str, own: str | None = None) -> dict[str, Any]:
    """What DeepSpeed is told under a strategy: launch/deepspeed/<name>.json, and a file of one's own over it.

    Args:
        name: of ZERO.
        own: a JSON file; its keys take the place of the strategy's, one by one.

    Raises:
        UserError: the file cannot be read, or says what a config says, or another stage.
    """
    standard = data_files.folder("launch") / "deepspeed" / f"{name.removeprefix('deepspeed_')}.json"
    settings: dict[str, Any] = json.loads(standard.read_text(encoding="utf-8"))
    if own is None:
        return settings
    merged = _merged(settings, _read(own))
    stage = merged["zero_optimization"].get("stage")
    if stage != zero_stage(name):
        raise UserError(f"deepspeed={own} asks for stage {stage} of ZeRO and strategy={name} for {zero_stage(name)}.")
    return merged


def mistakes_in_settings(name: str, own: str | None) -> Iterator[str]:
    """What is wrong with a file of one's own, if there is one."""
    if own is None:
        return
    if not is_zero(name):
        yield f"deepspeed={own} has no effect under strategy={name}: name one of {', '.join(ZERO)}, or leave it out."
        return
    try:
        zero_settings(name, own)
    except UserError as error:
        yield str(error)


def _read(file: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"deepspeed={file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"deepspeed={file} is no JSON: {error}.") from None
    if not isinstance(found, dict) or not isinstance(found.get("zero_optimization", {}), dict):
        raise UserError(f"deepspeed={file} is no mapping of DeepSpeed's settings, such as launch/deepspeed/zero2.json.")
    if taken := [f"{key} ({OURS[key]} says that)" for key in found if key in OURS]:
        raise UserError(f"deepspeed={file} sets what the config sets: leave out {', '.join(taken)}.")
    return found


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, those above in place of those below."""
    both = {
        key: _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}


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
