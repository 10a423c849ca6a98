"""Anybody's pictures, as a folder of files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from poise.data.dataset import Splits
from poise.data.folder import folder_at, load_folder, load_parts
from poise.data.listing import list_folders, list_other_things
from poise.data.metadata import METADATA, list_metadata
from poise.data.picture_files import Form
from poise.data.source import DataSource, OtherThings


class ImageFolder(DataSource):
    """A folder of pictures (jpg, jpeg, png, bmp, webp, ppm); x is [N, C, H, W] in uint8.

    In folders `train/CLASS`, `test/CLASS` and, where wanted, `val/CLASS` and `calibration/CLASS`; or `CLASS` alone; or
    listed in a `metadata.csv` with the columns file, label and, where wanted, group and split. Splits that are not
    there are shares of train, every class alike; without train the pictures are there to evaluate on.
    `shifts/NAME/CLASS` are further test sets, `ood/NAME` pictures of other things, `unlabelled` a stream.

    Pictures are decoded once into a cache in uint8, which is said where it is made, which the processes of a machine
    share, and which is made anew where files or settings change. They are turned as their EXIF orientation says;
    transparency is left out.

    Args:
        path: of the folder.
        size: height and width of pictures: the shorter side is resized to it and the centre cut out. None takes them as
            they are, all of one size.
        channels: 3 for red, green and blue, 1 for grey.
        val: share of the training pictures that choose the model, where there are none in val.
        calibration: share of the training pictures that fits calibrators, where there are none in calibration.
        test: share of the training pictures that the report is about, where there are none in test.
        cache: directory of caches; None is poise/pictures in the user's cache directory.
        cache_limit: GB; pictures that would take more are decoded at every reading.
    """

    files: ClassVar[frozenset[str]] = frozenset({"path"})
    folders: ClassVar[frozenset[str]] = frozenset({"path"})

    def __init__(
        self,
        path: str,
        size: Annotated[int, Ge(1)] | None = None,
        channels: Literal[1, 3] = 3,
        val: Annotated[float, Gt(0), Lt(1)] = 0.1,
        calibration: Annotated[float, Gt(0), Lt(1)] = 0.1,
        test: Annotated[float, Gt(0), Lt(1)] = 0.2,
        cache: str | None = None,
        cache_limit: Annotated[float, Ge(0)] = 64.0,
    ) -> None:
        self.path = path
        self.size = size
        self.channels = channels
        self.val = val
        self.calibration = calibration
        self.test = test
        self.cache = cache
        self.cache_limit = cache_limit

    def load(self, seed: int) -> Splits:
        """The folder's pictures.

        Raises:
            UserError: no such folder, a layout that is none of these, pictures that cannot be read or differ in size.
        """
        folder = folder_at(self.path)
        listing = list_metadata(folder) if (folder / METADATA).is_file() else list_folders(folder)
        shares = {"val": self.val, "calibration": self.calibration, "test": self.test}
        return load_folder(listing, Form(self.channels, self.size), self.cache, self.cache_limit, shares, seed)

    @property
    def file_name(self) -> str:
        """Of the folder."""
        return Path(self.path).name

    def other_things(self, seed: int, input_shape: tuple[int, ...]) -> Mapping[str, OtherThings]:
        """Pictures of no class: of each `ood/NAME`, else all in `test`, else all; or those that metadata.csv says are.

        Where no size is set, they are read in that of the other data if it is square.

        Raises:
            UserError: no such folder, no pictures in it, or some that cannot be read or differ in size.
        """
        square = input_shape[-1] if len(input_shape) == 3 and input_shape[1] == input_shape[2] else None
        form = Form(self.channels, square if self.size is None else self.size)
        folder = folder_at(self.path)
        if (folder / METADATA).is_file():
            return super().other_things(seed, input_shape)
        parts = load_parts(list_other_things(folder), form, self.cache, self.cache_limit)
        return {name: OtherThings(part.x, "image", self.valid_range) for name, part in parts.items()}
