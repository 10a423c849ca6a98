"""The base of everything that maps logits to calibrated logits after training."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import wraps
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, inf, nn

from poise.batch import Predictions
from poise.data.checks import check_tensor
from poise.errors import UserError
from poise.examples import check_logits, refuse
from poise.number_checks import within_bounds
from poise.own_dtype import Move, in_own_dtype

FAR = 1e100  # from 0, or from the highest of its row: further off a finite logit of double precision could overflow


class Calibrator(nn.Module):
    """A map from logits to calibrated logits, fitted after training on held-out logits.

    It stands outside the trained module. What it learns is kept in buffers, so `state_dict` is all of it, and its
    constructor arguments are kept under their own names, inside the bounds of their types. Buffers whose size the data
    tell are empty until then; a state that is loaded gives them its own sizes. Casting it, or a module that holds it,
    leaves them in their precision. `fit` calls `check_held_out` first, sees every rank's predictions and draws nothing
    at random, so all ranks come to the same state. It runs outside `torch.inference_mode()` wherever it is called, on
    copies of what was made in it.

    Before `fit` it gives the uncalibrated log-probabilities. After it logits have the classes of the held-out ones, or
    any number of them where `any_classes` says so.
    """

    paper: ClassVar[str] = ""
    """Authors, title, year, arXiv id."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Capabilities without which it cannot be fitted, such as 'unlabelled'."""

    default: ClassVar[bool] = False
    """Whether it is fitted when a run names no calibrator."""

    keeps_prediction: ClassVar[bool] = True
    """Whether the predicted class of every row stays, ties included; of others reports say how many rows change."""

    any_classes: ClassVar[bool] = False
    """Whether all classes are mapped alike, so that logits may have another number of them than the held-out ones."""

    _watch: Callable[[float], None] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = within_bounds(cls.__init__)  # type: ignore[method-assign]
        if "fit" in vars(cls):
            cls.fit = _outside_inference(cls.fit)  # type: ignore[method-assign]

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "Calibrator":
        """Learn the map from the calibration split, and from unlabelled predictions where `needs` says so.

        Raises:
            UserError: predictions that nothing can be fitted to.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fit.")

    def __call__(self, logits: Shaped[Tensor, "..."]) -> Float[Tensor, "N C"]:
        """Calibrated logits [N, C] of logits [N, C], by `forward`: finite where those are, however large.

        Raises:
            UserError: logits that are no tensor of floats [N, C], or of another number of classes than was fitted to.
        """
        check_logits(logits, "A calibrator")
        calibrated = super().__call__(_within_reach(logits))
        rounded = calibrated.isneginf() & logits.isfinite()
        return calibrated.masked_fill(rounded, torch.finfo(calibrated.dtype).min)

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Calibrated logits, as normalised log-probabilities in the dtype of `logits`; -inf for masked classes.

        Callers call the calibrator, which looks at the logits first.

        Raises:
            UserError: another number of classes than was fitted to, where `check_classes` says so.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward.")

    @property
    def settled(self) -> str:
        """What a fit came to in a few words, such as `T = 1.204`; "" where there is little to say."""
        return ""

    @property
    def doubt(self) -> str:
        """Why a fit is not to be relied on, such as a parameter at its bound, in a few words; "" where nothing says."""
        return ""

    def take_sizes(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """Give buffers the sizes that they have in a state, where their names begin so."""
        for name, buffer in self._buffers.items():
            kept = state.get(prefix + name)
            if isinstance(kept, Tensor) and buffer is not None and kept.shape != buffer.shape:
                setattr(self, name, buffer.new_empty(kept.shape))

    def advance(self, share: float) -> None:
        """Tell whoever watches that this share of the fit is done; for fits that take long. Shares add up to 1."""
        if self._watch is not None:
            self._watch(share)

    @contextmanager
    def watched(self, watch: Callable[[float], None]) -> Iterator[None]:
        """While it is fitted once, `watch` is told of the shares of the fit that are done: of 1 in all by the end."""
        left = 1.0

        def tell(share: float) -> None:
            nonlocal left
            left -= share
            watch(share)

        self._watch = tell
        try:
            yield
        finally:
            self._watch = None
        watch(left)

    def _apply(self, fn: Move, recurse: bool = True) -> "Calibrator":
        super()._apply(in_own_dtype(fn), recurse)
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *further: Any) -> None:
        self.take_sizes(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *further)


def check_held_out(held_out: Predictions) -> None:
    """Look at the labelled predictions a calibrator is to be fitted to. A masked class has the logit -inf.

    Raises:
        UserError: fewer than two examples, labels outside 0…C-1, or logits that are no finite numbers or too
            large for sums.
    """
    if not hasattr(held_out, "logits"):
        raise UserError(
            f"A calibrator is fitted to Predictions, not to a {type(held_out).__name__}: "
            "give Predictions.of(logits, labels)."
        )
    logits = check_tensor(held_out.logits, "logits")
    label = check_tensor(held_out.label, "label")
    if logits.ndim != 2 or label.shape != logits.shape[:1]:
        raise UserError(
            f"The calibration split has logits {tuple(logits.shape)} and labels {tuple(label.shape)}: "
            "they have to be [N, C] and [N]."
        )
    size, num_classes = logits.shape
    if size < 2:
        raise UserError(f"The calibration split has {size} examples; a calibrator needs 2 or more (data.calibration).")
    if label.is_floating_point():
        raise UserError(f"The labels of the calibration split are {label.dtype}: they have to be integers.")
    if not logits.is_floating_point():
        raise UserError(f"The logits of the calibration split are {logits.dtype}: they have to be floats.")
    split = "the calibration split"
    refuse((label < 0) | (label >= num_classes), split, f"has a label outside 0…{num_classes - 1}")
    refuse((logits.isnan() | logits.isposinf()).any(-1), split, "has logits that are not finite")
    refuse(_beyond(logits).any(-1), split, f"has finite logits beyond ±{FAR:g}")
    refuse(logits.gather(1, label[:, None].long()).isneginf()[:, 0], split, "has the logit -inf for its own label")


def check_classes(calibrator: str, fitted: int, logits: Float[Tensor, "N C"]) -> None:
    """Raises UserError unless logits have as many classes as those that a calibrator was fitted to."""
    if logits.shape[-1] != fitted:
        raise UserError(f"{calibrator} was fitted to {fitted} classes, and these logits have {logits.shape[-1]}.")


def keep_prediction(calibrated: Float[Tensor, "N C"], logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """Undo ties that rounding made: the predicted class is the one that `logits` have."""
    predicted = logits.argmax(-1, keepdim=True)
    tied = calibrated.argmax(-1, keepdim=True) != predicted
    above = calibrated.amax(-1, keepdim=True).nextafter(calibrated.new_tensor(inf))
    return torch.where(tied, calibrated.scatter(-1, predicted, above), calibrated)


def _outside_inference(fit: Callable[..., Calibrator]) -> Callable[..., Calibrator]:
    """A fit to which inference mode is nothing: it may take gradients, and there are some through what it leaves."""

    @wraps(fit)
    def outside(calibrator: Calibrator, held_out: Predictions, unlabelled: Predictions | None = None) -> Calibrator:
        with torch.inference_mode(False):
            for name, buffer in [*calibrator.named_buffers(recurse=False)]:
                setattr(calibrator, name, _usable(buffer))
            return fit(calibrator, _usable(held_out), _usable(unlabelled))

    return outside


def _usable(given: Any) -> Any:
    """A copy of what was made in inference mode, which no gradient passes; anything else as it is."""
    if isinstance(given, Predictions):
        return replace(given, **{field.name: _usable(getattr(given, field.name)) for field in fields(given)})
    return given.clone() if isinstance(given, Tensor) and given.is_inference() else given


def _within_reach(logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """Logits none of which overflows where it is scaled; rows as they are wherever that holds of them."""
    if torch.finfo(logits.dtype).max <= FAR:
        return logits
    beyond = _beyond(logits).any(-1, keepdim=True)
    nearer = (logits - logits.amax(-1, keepdim=True)).clamp(min=-FAR).masked_fill(logits.isneginf(), -inf)
    return torch.where(beyond, nearer, logits)


def _beyond(logits: Float[Tensor, "N C"]) -> Bool[Tensor, "N C"]:
    return (logits.abs() > FAR) & logits.isfinite()
