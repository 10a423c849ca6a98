"""What the command says at the end of a run: where it is, how to see it and how to load its model."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from poise.config import Config


def last_words(config: Config, path: Path) -> str:
    """Commands that work as they are typed, in the directory and the shell that the run was started from."""
    lines = [f"Run:   {path}"]
    if config.tracking.name != "none":
        address = [] if config.tracking.uri is None else [f"tracking.uri={config.tracking.uri}"]
        lines.append(f"See:   {shlex.join([*command('poise'), 'ui', *address])}")
    if not (path / "predictor").is_dir():
        return "\n".join(lines)
    if (trust := _trust(path)) is None:
        return "\n".join(lines)
    code = f"import poise; print(poise.Predictor.load({json.dumps(str(path), ensure_ascii=False)}{trust}))"
    lines.append(f"Model: {shlex.join([*command('python'), '-c', code])}")
    return "\n".join(lines)


def _trust(path: Path) -> str | None:
    """What loading a predictor of code of one's own takes besides; None where it takes an object."""
    card = json.loads((path / "predictor" / "predictor.json").read_text(encoding="utf-8"))
    if card["model"] is None:
        return None
    made = (card[part]["name"] for part in ("model", "head", "calibrator") if card[part])
    return ", trust=True" if any(":" in name for name in made) else ""


def command(name: str) -> list[str]:
    """What to type for a program of this Python's environment: its name where the shell finds it, else its path."""
    own = Path(sys.executable).with_name(name)
    if not own.exists():
        return [_typed(Path(sys.executable)), "-m", name]
    found = shutil.which(name)
    return [name if found and Path(found).absolute() == own.absolute() else _typed(own)]


def _typed(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
