"""The one shape of model that recipes, attacks and evaluators see: normalise, backbone, head."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from poise.errors import UserError, nearest
from poise.models.surgery import find_head, same_function, without

Transform = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Output:
    """What a forward pass gives.

    Args:
        logits: unnormalised class scores, [B, C].
        features: what the head saw, [B, D]; None for a model whose head is not known.
        layers: outputs of the named layers, each [B, ...], where they were asked for.
    """

    logits: Float[Tensor, "B C"]
    features: Float[Tensor, "B D"] | None = None
    layers: Mapping[str, Tensor] = field(default_factory=dict)


class Classifier(nn.Module):
    """A classifier of inputs in their valid range: `head(backbone(normalise(x)))`.

    Args:
        backbone: maps normalised inputs [B, *input] to features [B, D].
        head: maps features [B, D] to logits [B, C].
        mean, std: per channel (axis 1 of the input) or one number; `(x - mean) / std` goes into the backbone.
        layer_names: sub-modules of the backbone (dotted names) whose outputs may be transformed or kept.
        feature_width: D; read from the head when None, 0 where the head does not tell.
        head_name: what the head is called in the network that was cut before it, whose other names are the
            backbone's; None where there was none.
        channels_last: whether pictures go into the backbone with their channels last in memory.

    Attributes:
        standalone: parameters of its maker, in place of those given that name files: with them it is made again without
            any.

    Raises:
        UserError: a layer that the backbone does not have; a std that is not positive; lengths that differ.
    """

    mean: Tensor | None
    std: Tensor | None
    standalone: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        layer_names: Sequence[str] = (),
        feature_width: int | None = None,
        head_name: str | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.layer_names = tuple(layer_names)
        self.feature_width = _width(head) if feature_width is None else feature_width
        self.channels_last = channels_last
        self._head_name = head_name
        self._unproved: tuple[nn.Module, ...] = ()
        self._compiled = False
        self._kept: tuple[nn.Module, ...] = ()
        _check_layers(backbone, self.layer_names)
        for name, value in zip(("mean", "std"), _check_statistics(mean, std), strict=True):
            self.register_buffer(name, value)

    @classmethod
    def wrap(
        cls,
        network: nn.Module,
        num_classes: int,
        example: Float[Tensor, "B *input"] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        layer_names: Sequence[str] | None = None,
    ) -> "Classifier":
        """Any module from inputs to logits, as a Classifier that trains this very module in place.

        The last `nn.Linear` with `num_classes` outputs becomes the head, if head after backbone is the same
        function as the network; this is tried on `example`, else on the first input. Without such a layer the
        whole network is the backbone and `feature_width` is 0.

        Args:
            network: maps normalised inputs [B, *input] to logits [B, C]; a Classifier is returned as it is.
            num_classes: C.
            example: two or so valid inputs on the network's device.
            mean: as of a Classifier, for a network that does not normalise inside.
            std: likewise.
            layer_names: as of a Classifier; None is the network's children that have weights or are activations.
        """
        if isinstance(network, Classifier):
            return network
        found = find_head(network, num_classes)
        if found is not None:
            backbone = without(network, found.linear)
            layers = _default_layers(backbone) if layer_names is None else layer_names
            model = cls(backbone, found.linear, mean, std, layers, head_name=found.name)
            if found.certain or example is None:
                model._unproved = () if found.certain else (network,)
                return model
            if model._same_as(network, example):
                return model
        layers = _default_layers(network) if layer_names is None else layer_names
        return cls(network, nn.Identity(), mean, std, layers, head_name="")

    def wrapped_names(self) -> dict[str, str]:
        """Names of the weights in the network that was cut, by their names here; empty where none was."""
        if self._head_name is None:
            return {}
        homes = {"backbone": "", "head": self._head_name}
        parts = ((name, *name.partition(".")[::2]) for name in self.state_dict())
        return {name: ".".join(filter(None, [homes[part], rest])) for name, part, rest in parts if part in homes}

    def normalise(self, x: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """The input as the backbone takes it, [B, *input]."""
        if self.mean is not None and self.std is not None:
            shape = (-1, *[1] * (x.ndim - 2))
            x = (x - self.mean.view(shape)) / self.std.view(shape)
        if self.channels_last and x.ndim == 4:  # convolutions hand the layout on, whatever that of their weights
            x = x.clone(memory_format=torch.channels_last)  # of one channel, `contiguous` would keep either layout
        return x

    def keep(self, part: nn.Module) -> None:
        """Hold a part in evaluation mode whatever the mode of the rest, from now on."""
        self._kept = (*self._kept, part)
        part.eval()

    @property
    def keeps(self) -> bool:
        """Whether parts are held in evaluation mode."""
        return bool(self._kept)

    def train(self, mode: bool = True) -> "Classifier":
        """Training or evaluation mode, of all but what is kept."""
        super().train(mode)
        for part in self._kept:
            part.eval()
        return self

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Compile the backbone in place, by what `torch.compile` takes; names and state stay, a copy is not compiled.

        A pass that looks into layers runs the backbone as it is: a graph does not call hooks that came after it.
        """
        self.backbone.compile(*arguments, **options)
        self._compiled = True

    def forward(self, x: Float[Tensor, "B *input"]) -> Float[Tensor, "B C"]:
        """Inputs in their valid range to logits, in float32 or better whatever the precision of the passes."""
        self._prove(x)
        return _precise(self.head(self.backbone(self.normalise(x))))

    def run(self, x: Float[Tensor, "B *input"], transform: Transform | None = None, keep: bool = False) -> Output:
        """A forward pass with all that can be known of it.

        Args:
            x: inputs in their valid range, [B, *input].
            transform: called as `transform(name, h) -> h` at 'input', before normalisation, and on the output
                of each of `layer_names`, the first time that layer runs in the pass.
            keep: whether `layers` is filled, with transformed values.

        Raises:
            UserError: a named layer whose output is not one tensor.
        """
        self._prove(x)
        layers: dict[str, Tensor] = {}
        if transform is not None:
            x = transform("input", x)
        asked = keep or transform is not None
        with self._watched(transform, layers, keep) if asked else nullcontext():
            features = self.backbone(self.normalise(x))
            logits = _precise(self.head(features))
        return Output(logits, features if self.feature_width else None, layers)

    @contextmanager
    def _watched(self, transform: Transform | None, layers: dict[str, Tensor], keep: bool) -> Iterator[None]:
        """Hooks on the named layers for one pass."""
        with ExitStack() as hooks:
            if self._compiled:
                hooks.enter_context(torch.compiler.set_stance("force_eager"))
            for name in self.layer_names:
                handle = self.backbone.get_submodule(name).register_forward_hook(
                    _Tap(name, transform, layers if keep else None)
                )
                hooks.callback(handle.remove)
            yield

    def _prove(self, x: Tensor) -> None:
        """Checks, once, that a wrapped network was cut at its logits."""
        if not self._unproved:
            return
        (network,), self._unproved = self._unproved, ()
        if not self._same_as(network, x[:2]):
            self._unproved = (network,)
            raise UserError(
                f"{type(network).__name__} does more after its last Linear layer, so that layer cannot be "
                "its head. Give poise.models.classifier.Classifier(network, torch.nn.Identity()) instead."
            )

    def _same_as(self, network: nn.Module, x: Tensor) -> bool:
        """Whether head after backbone is the same function as the network, of normalised inputs."""
        return same_function(network, nn.Sequential(self.backbone, self.head), self.normalise(x.detach()))


class _Tap:
    """A forward hook that transforms and keeps a layer's first output in a pass."""

    def __init__(self, name: str, transform: Transform | None, layers: dict[str, Tensor] | None) -> None:
        self.name, self.transform, self.layers = name, transform, layers
        self.done = False

    def __call__(self, module: nn.Module, inputs: Any, h: Any) -> Any:
        if self.done:
            return h
        self.done = True
        if not isinstance(h, Tensor):
            raise UserError(
                f"layer {self.name!r} ({type(module).__name__}) gives a {type(h).__name__}, not one tensor: "
                "leave it out of the Classifier's layer_names."
            )
        h = h if self.transform is None else self.transform(self.name, h)
        if self.layers is not None:
            self.layers[self.name] = h
        return h


def _precise(logits: Tensor) -> Tensor:
    """Where autocast leaves losses in bfloat16, as on CPU, a probability has three digits and a KL divergence none."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _width(head: nn.Module) -> int:
    widths = (getattr(module, "in_features", None) for module in head.modules())
    return next((width for width in widths if isinstance(width, int)), 0)


def _check_layers(backbone: nn.Module, layer_names: tuple[str, ...]) -> None:
    known = [name for name, _ in backbone.named_modules(remove_duplicate=False) if name]
    for name in layer_names:
        if name not in known:
            raise UserError(f"layer_names: the backbone has no sub-module {name!r}.{nearest(name, known)}")
        if name == "input":
            raise UserError("layer_names: 'input' names the model's input; rename that sub-module.")


def _check_statistics(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None
) -> tuple[Tensor | None, Tensor | None]:
    if mean is None and std is None:
        return None, None
    mean_, std_ = (
        torch.as_tensor(value, dtype=torch.float32, device="cpu").reshape(-1)
        for value in (0.0 if mean is None else mean, 1.0 if std is None else std)
    )
    if not (torch.isfinite(mean_).all() and torch.isfinite(std_).all() and (std_ > 0).all()):
        raise UserError(f"mean={mean} and std={std} must be finite, and std positive.")
    if len(mean_) != len(std_) and 1 not in (len(mean_), len(std_)):
        raise UserError(f"mean has {len(mean_)} values and std {len(std_)}: give one each per channel.")
    return mean_.to(torch.get_default_device()), std_.to(torch.get_default_device())


def _default_layers(backbone: nn.Module) -> tuple[str, ...]:
    """Direct children that have parameters or are activations, and give one tensor."""
    many = (nn.RNNBase, nn.MultiheadAttention)
    return tuple(
        name
        for name, child in backbone.named_children()
        if name != "input"
        and not isinstance(child, many)
        and (any(True for _ in child.parameters()) or type(child).__module__ == nn.ReLU.__module__)
    )
