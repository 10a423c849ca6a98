"""Algorithms that look for the worst input inside a threat; used by recipes and by evaluators, and usable alone.

    x_adv = AutoAttack(Threat("linf", 8 / 255))(model, x, y)

Names are imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "APGD": "poise.attacks.apgd",
    "AutoAttack": "poise.attacks.autoattack",
    "DeepFool": "poise.attacks.deepfool",
    "FAB": "poise.attacks.fab",
    "PGD": "poise.attacks.pgd",
    "Square": "poise.attacks.square",
    "TargetedAPGD": "poise.attacks.apgd_targeted",
    "TargetedFAB": "poise.attacks.fab_targeted",
    "Threat": "poise.attacks.threat",
}

__all__ = [*_HOMES]

if not TYPE_CHECKING:  # type checkers read __init__.pyi

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'poise.attacks' has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted([*globals(), *_HOMES])
