"""Presets: stacks, published settings and clusters that have a name."""

from poise.data_files import folder


def names() -> list[str]:
    """Every preset, in alphabetical order."""
    return sorted(path.stem for path in folder("configs").glob("*.yaml"))


def text(name: str) -> str:
    """The YAML of a preset, comments and all."""
    return (folder("configs") / f"{name}.yaml").read_text(encoding="utf-8")


def about(name: str) -> str:
    """What a preset is for: its first line, a comment."""
    return text(name).partition("\n")[0].lstrip("# ")
