"""Parameters as one types them."""

from typing import Any

from poise.registry import UNWRITABLE, Parameter

_WORDS = {None: "none", True: "true", False: "false"}


def as_text(value: Any) -> str:
    """A value as the command line takes it: `none`, `true`, `0.1`, `1,2`."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    return _WORDS[value] if value is None or isinstance(value, bool) else str(value)


def assignment(parameter: Parameter) -> str:
    """`beta=6.0`; `path=…` where a value has to be given, the name alone where the default cannot be written."""
    if parameter.default is UNWRITABLE:
        return parameter.name
    return f"{parameter.name}={'…' if parameter.required else as_text(parameter.default)}"
