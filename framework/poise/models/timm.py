"""Every architecture of timm, with timm's own normalisation inside."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import nn

from poise.errors import UserError, nearest
from poise.models.classifier import Classifier
from poise.models.shapes import check_output, example_of, image_channels

LONG = 200  # characters of somebody else's reason
KEPT = (".safetensors", ".bin", ".pth", ".npz")  # files of weights at the hub
_NAME = re.compile(r"\w+(\.\w+)?", re.ASCII)
_REFUSED = re.compile(r"unexpected keyword argument.*'(in_chans|img_size)'")


def timm(
    num_classes: int, input_shape: Sequence[int], architecture: str, pretrained: bool = False, normalise: bool = True
) -> Classifier:
    """An architecture of timm, made for the channels, size and classes of the data: `model=timm/resnet18`.

    Inputs are normalised as timm does for the architecture's weights (mostly with ImageNet's mean and std); where the
    data have not three channels, by the mean over timm's three. The named layers are those that timm takes features
    from: stages of a convolutional network, blocks of a transformer.

    Args:
        num_classes: C.
        input_shape: (channels, height, width).
        architecture: as timm calls it, such as resnet18, or with one of its weights, resnet18.a1_in1k.
        pretrained: whether to start from timm's weights, which are downloaded; the head is new where C is another.
        normalise: whether to; false for weights that were trained on inputs as they are.

    Raises:
        UserError: no such architecture or weights, one that cannot take such images, or a download that fails.

    Source: Wightman, 2019, PyTorch Image Models, doi 10.5281/zenodo.4414861.
    """
    said = f"model=timm/{architecture}"
    channels = image_channels(f"timm/{architecture}", input_shape, smallest=1)
    _check_known(said, architecture)
    optional = {"in_chans": channels, "img_size": tuple(input_shape[1:])}
    network = _created(said, architecture, pretrained, {"num_classes": num_classes, **optional})
    mean, std = (_statistics(network, name, channels) if normalise else None for name in ("mean", "std"))
    example = example_of(network, input_shape)
    check_output(f"timm/{architecture}", network, example, num_classes)
    model = Classifier.wrap(network, num_classes, example, mean, std, _layers(network))
    model.channels_last = sum(isinstance(module, nn.Conv2d) for module in network.modules()) > 1  # not patches alone
    return model


def _check_known(said: str, architecture: str) -> None:
    from timm import list_models
    from timm.models import is_model

    if not _NAME.fullmatch(architecture) or not is_model(architecture):
        known = list_models()
        raise UserError(
            f"{said}: timm has no architecture of that name.{nearest(architecture.partition('.')[0], known)} "
            f"timm.list_models() names all {len(known)}."
        )


def _created(said: str, architecture: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    """The network, without those arguments that only some architectures take."""
    from timm import create_model

    try:
        if pretrained:
            _ask_once(architecture)
        return create_model(architecture, pretrained=pretrained, **arguments)
    except Exception as error:  # whatever a constructor, a download or a file of weights raises
        if isinstance(error, TypeError) and (refused := _REFUSED.search(str(error))) and refused[1] in arguments:
            kept = {name: value for name, value in arguments.items() if name != refused[1]}
            return _created(said, architecture, pretrained, kept)
        reason = shorten(str(error), LONG, placeholder=" …")
        if not pretrained:
            raise UserError(f"{said} cannot be made for these data: {reason}") from error
        raise UserError(
            f"{said} model.pretrained=true: its weights are not to be had ({reason}): fetch a file of them where you "
            "can, and give model.checkpoint=<file> model.new_head=true."
        ) from error


def _ask_once(architecture: str) -> None:
    """Raise where weights are neither on this machine nor at a hub that answers: timm would ask for over a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from timm.models import get_pretrained_cfg

    found = get_pretrained_cfg(architecture)
    if found is None or not found.hf_hub_id:
        return
    hub, _, revision = found.hf_hub_id.partition("@")
    if _is_kept(hub, revision or None):
        return
    with suppress(HfHubHTTPError):  # it answers, if only that there is no such file: timm tries others
        get_hf_file_metadata(hf_hub_url(hub, "model.safetensors", revision=revision or None))


def _is_kept(hub: str, revision: str | None) -> bool:
    """Whether weights were fetched before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return False
    return any(path.suffix in KEPT for path in folder.iterdir())


def _layers(network: nn.Module) -> list[str] | None:
    """Where timm takes features from; None where it does not say."""
    places: Iterable[Mapping[str, str]] | None = getattr(network, "feature_info", None)
    return [place["module"] for place in places] if places else None


def _statistics(network: nn.Module, name: str, channels: int) -> float | Sequence[float]:
    """The architecture's own mean or std: of each of three channels, else one number."""
    values: Sequence[float] = network.pretrained_cfg[name]  # type: ignore[assignment, index]
    return values if channels == len(values) else sum(values) / len(values)
