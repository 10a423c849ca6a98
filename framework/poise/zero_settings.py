"""DeepSpeed's settings as JSON files say them."""

import json
import reprlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from poise import data_files, deepspeed_says
from poise.errors import UserError, nearest
from poise.strategies import ZERO, is_zero, zero_stage

OURS: Mapping[str, str] = {
    "train_batch_size": "trainer.batch_size",
    "train_micro_batch_size_per_gpu": "trainer.batch_size and trainer.accumulate",
    "gradient_accumulation_steps": "trainer.accumulate",
    "gradient_clipping": "trainer.gradient_clip",
    "fp16": "trainer.precision",
    "bf16": "trainer.precision",
    "bfloat16": "trainer.precision",
    "torch_autocast": "trainer.precision",
    "data_types": "trainer.precision",
    "optimizer": "optimizer",
    "scheduler": "schedule",
}  # keys of DeepSpeed's by what says the same here
SETTINGS: Mapping[str, type] = {
    "zero_optimization": dict,
    "zero_allow_untested_optimizer": bool,
    "zero_force_ds_cpu_optimizer": bool,
    "communication_data_type": str,
    "seq_parallel_communication_data_type": str,
    "prescale_gradients": bool,
    "gradient_predivide_factor": float,
    "gradient_allreduce_op": str,
    "disable_allgather": bool,
    "activation_checkpointing": dict,
    "aio": dict,
    "steps_per_print": int,
    "wall_clock_breakdown": bool,
    "memory_breakdown": bool,
    "dump_state": bool,
    "disable_python_gc": bool,
    "comms_logger": dict,
    "flops_profiler": dict,
    "timers": dict,
    "tensorboard": dict,
    "wandb": dict,
    "csv_monitor": dict,
    "comet": dict,
}  # of DeepSpeed's config: those that its engine heeds where poise trains
UNSAVED: Mapping[str, Callable[[Any], bool]] = {
    "offload_optimizer.device": lambda device: device == "nvme",
    "offload_optimizer.ratio": lambda ratio: ratio != 1,
    "offload_optimizer.super_offload": bool,
    "offload_param.device": lambda device: device == "nvme",
    "zenflow": lambda _: True,
}  # of zero_optimization: what keeps the optimiser's state where no checkpoint finds it
WORDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
}


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
    if type(stage) is not int or stage != zero_stage(name):
        raise UserError(
            f"deepspeed={own} asks for stage {reprlib.repr(stage)} of ZeRO and strategy={name} for {zero_stage(name)}."
        )
    return merged


def mistakes_in_settings(name: str, own: str | None) -> Iterator[str]:
    """What is wrong with a file of one's own, if there is one, without asking DeepSpeed."""
    if own is None:
        return
    if not is_zero(name):
        yield f"deepspeed={own} has no effect under strategy={name}: name one of {', '.join(ZERO)}, or leave it out."
        return
    try:
        zero_settings(name, own)
    except UserError as error:
        yield str(error)


def refused_settings(name: str, own: str | None) -> str:
    """What DeepSpeed itself has against a file of one's own that is right otherwise; takes seconds."""
    if own is None or any(mistakes_in_settings(name, own)):
        return ""
    return deepspeed_says.answer(zero_settings(name, own))


def _read(file: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise UserError(f"deepspeed={file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"deepspeed={file} is no JSON: {error}.") from None
    except RecursionError:
        raise UserError(f"deepspeed={file} is no JSON of settings: it is nested too deeply.") from None
    if not isinstance(found, dict) or not isinstance(found.get("zero_optimization", {}), dict):
        raise UserError(f"deepspeed={file} is no mapping of DeepSpeed's settings, such as launch/deepspeed/zero2.json.")
    if taken := [f"{key} ({OURS[key]} says that)" for key in found if key in OURS]:
        raise UserError(f"deepspeed={file} sets what the config sets: leave out {', '.join(taken)}.")
    for key, value in found.items():
        _check_setting(file, key, value)
    _refuse_unsaved(file, found.get("zero_optimization", {}))
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _check_setting(file: str, key: str, value: Any) -> None:
    """DeepSpeed passes over what it does not know, and looks at some of the others only while it trains."""
    if key not in SETTINGS:
        raise UserError(f"deepspeed={file}: {key!r} is no setting with an effect here.{nearest(key, SETTINGS)}")
    kind = SETTINGS[key]
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise UserError(f"deepspeed={file}: {key} has to be {WORDS[kind]}, and is {reprlib.repr(value)}.")


def _refuse_unsaved(file: str, zero: Mapping[str, Any]) -> None:
    for name, unsaved in UNSAVED.items():
        value = _at(zero, name)
        if value is not None and unsaved(value):
            raise UserError(
                f"deepspeed={file}: with {name} {reprlib.repr(value)} no checkpoint could be written; leave it out."
            )


def _at(settings: Any, name: str) -> Any:
    for key in name.split("."):
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, those above in place of those below."""
    both = {
        key: _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}
