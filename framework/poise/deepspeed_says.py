"""Whether DeepSpeed takes its settings.

Run as a program, this file asks for a process that shall not import DeepSpeed, which chooses its device when imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from poise import cli
from poise.errors import UserError, nearest

MISTAKE = 2  # exit code


def ask(settings: Mapping[str, Any]) -> None:
    """Have DeepSpeed read its settings, in this process.

    Raises:
        UserError: it does not take them, in its words and one line.
    """
    from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError
    from pydantic import ValidationError  # DeepSpeed's own dependency

    try:
        DeepSpeedConfig({"train_micro_batch_size_per_gpu": 1, **settings})
    except ValidationError as error:
        said = "; ".join(_in_words(found["loc"], found["msg"]) for found in error.errors())
    except (DeepSpeedConfigError, AssertionError, AttributeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
    else:
        return
    raise UserError(f"DeepSpeed does not take what deepspeed= says: {said}")


def _in_words(place: tuple[int | str, ...], message: str) -> str:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    if not place:
        return message
    known = [field.alias or name for name, field in DeepSpeedZeroConfig.model_fields.items()]
    near = nearest(str(place[0]), known) if place[0] not in known else ""
    return f"{'.'.join(map(str, place))}: {message}{'.' * bool(near)}{near}"


def answer(settings: Mapping[str, Any]) -> str:
    """What `ask` says, of a process of its own; "" where DeepSpeed takes the settings, or cannot be asked."""
    done = subprocess.run(
        [sys.executable, "-m", "poise.deepspeed_says"],
        input=json.dumps(settings),
        env={**os.environ, "DS_ACCELERATOR": "cpu"},  # it leaves a GPU alone
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.stderr.splitlines()[-1] if done.returncode == MISTAKE else ""


def _run(_: list[str]) -> int:
    ask(json.load(sys.stdin))
    return 0


if __name__ == "__main__":
    sys.exit(cli.attempt(_run, sys.argv[1:]))
