"""Files that are pictures by their names, as a folder holds them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from poise.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")


@dataclass(frozen=True)
class PictureFiles:
    """Pictures, not looked into.

    Args:
        folder: that they are in.
        files: relative to it, one or more, in an order that is the same on every machine.
    """

    folder: Path
    files: Sequence[str]

    def __len__(self) -> int:
        return len(self.files)


def is_picture(name: str) -> bool:
    """Whether a file is one by its name."""
    return name.lower().endswith(EXTENSIONS)


def find_pictures(path: str, said: str) -> PictureFiles:
    """A picture alone, or those of a folder at any depth.

    Args:
        path: of the picture or the folder.
        said: how the user gave it, for messages.

    Raises:
        UserError: a folder that cannot be listed, or without any.
    """
    place = Path(path)
    if not place.is_dir():
        return PictureFiles(place.parent, [place.name])
    files = list(pictures_in(place))
    if not files:
        raise UserError(f"{said} is a directory that holds no picture ({', '.join(EXTENSIONS)}), at any depth.")
    return PictureFiles(place, files)


def pictures_in(folder: Path, place: str = "") -> Iterator[str]:
    """Names of the pictures in a place of a folder, at any depth, relative to the folder.

    Links are followed, what is hidden is not looked at.

    Raises:
        UserError: a folder that cannot be listed, or a link to nothing.
    """
    return (name for name in files_in(folder, place) if is_picture(name))


def files_in(folder: Path, place: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """As `pictures_in`, of all files, whatever they are."""
    here = os.path.realpath(folder / place)
    if here in above:
        return  # a link back
    for entry in entries(folder / place):
        inside = os.path.join(place, entry.name)
        if is_folder(entry):
            yield from files_in(folder, inside, (*above, here))
        elif is_picture(entry.name) and not entry.is_file():
            raise UserError(f"{folder / inside} is no file: a link to nothing?")
        else:
            yield inside


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is one, or a link to one.

    Raises:
        UserError: nobody can say, as of a link to itself.
    """
    try:
        return entry.is_dir()
    except OSError as error:
        raise UserError(f"{entry.path} leads nowhere: {error.strerror}. Remove it.") from error


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, by name: systems list it in any order.

    Raises:
        UserError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}.") from error
