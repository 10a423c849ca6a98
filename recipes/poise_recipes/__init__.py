"""The recipes that come with poise, one a file, by family. Names are imported when first used."""

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:  # type checkers read __init__.pyi

    def _records() -> dict[str, Any]:
        from poise import registry

        found = [record for kind in ("recipe", "calibrator") for record in registry.records(kind).values()]
        own = [record for record in found if record.qualified.startswith(f"{__name__}.")]
        return {record.qualified.rpartition(":")[2]: record for record in own}

    def __getattr__(name: str) -> Any:
        from poise import registry

        if name.startswith("_") or name not in (records := _records()):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return registry.load(records[name])

    def __dir__() -> list[str]:
        return sorted([*globals(), *_records()])
