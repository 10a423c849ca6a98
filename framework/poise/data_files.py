"""Files that come with poise and are not code: presets and launchers."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `configs` or `launch`: beside the code where poise was installed from a wheel, else in the checkout.

    Raises:
        FileNotFoundError: neither has it.
    """
    places = (_PACKAGE / "data_files" / name, _PACKAGE.parents[1] / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"poise is installed without its {name}: looked for {places[0]} and {places[1]}")
