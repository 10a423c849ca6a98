"""A standard and a robust classifier as one."""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Le

from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.models.freezing import freeze
from poise.models.member import member_of
from poise.models.mixing import ConstantShare, LearnedShare, Members, Mix


def mixture(
    num_classes: int,
    input_shape: Sequence[int],
    alpha: Annotated[float, Ge(0), Le(1)] | None = None,
    *,
    standard: str,
    robust: str,
    low: Annotated[float, Ge(0), Le(1)] = 0.84,
    high: Annotated[float, Ge(0), Le(1)] = 0.99,
    standard_scale: Annotated[float, Gt(0)] = 1.0,
    robust_scale: Annotated[float, Gt(0)] = 1.0,
    width: Annotated[int, Ge(1)] = 64,
) -> Classifier:
    """Two trained classifiers, their probabilities mixed: log((1 - α)·p_standard(x) + α·p_robust(x)).

    Both are as their runs shipped them, without calibrators, frozen and in evaluation mode whatever becomes of the
    rest. α is a number, or what a small network makes of the features of both, which is then all there is to train:
    see `poise list confidence_mix`. What is shipped holds both members and needs their runs no more.

    Source: Bai et al., Improving the Accuracy-Robustness Trade-Off of Classifiers via Adaptive Smoothing, 2024, arXiv
    2301.12554, and Bai-YT/AdaptiveSmoothing. Departures from the authors' code: the logarithm is taken of no
    probability that may have been rounded to zero; their mixing network is a small ResNet on the members' inner
    pictures, this one has a hidden layer on what their heads see, whatever they are; without batch norm, with which an
    input's α would depend on others.

    Args:
        num_classes: C.
        input_shape: of one input.
        alpha: share of the robust classifier, the same for all inputs; None is a network's. 0.85 to 0.92 in the
            authors' files.
        standard: the accurate classifier: the directory of its run or predictor, or the run's id in MLflow.
        robust: the robust one.
        low: the least share that the network can give in evaluation mode; 0.84, 0.815 and 0.2 in the authors' files.
        high: the greatest; 0.99, 0.915 and 0.95.
        standard_scale: what the standard one's logits are multiplied with; 1.2, 2 and 1 in the authors' files.
        robust_scale: likewise; 0.5, 1 and 1.
        width: hidden units of the network.

    Raises:
        UserError: a run that is not there or is of other data, a member whose features are not known, or low above
            high.
    """
    if low > high:
        raise UserError(f"model.low={low:g} is above model.high={high:g}: give the ends of a range.")
    members = {
        name: member_of(f"model.{name}", given, num_classes, input_shape)
        for name, given in (("standard", standard), ("robust", robust))
    }
    models = {name: member.model for name, member in members.items()}
    scales = (standard_scale, robust_scale)
    if alpha is not None:
        model = Classifier(Members(**models, scales=scales, mixing=ConstantShare(alpha)), Mix())
    else:
        mixing = LearnedShare(sum(_width(name, member) for name, member in models.items()), width)
        model = Classifier(Members(**models, scales=scales, mixing=mixing), Mix(low, high), layer_names=("mixing",))
    model.standalone = {name: member.description for name, member in members.items()}
    freeze(model, [f"backbone.{name}" for name in members])
    return model


def _width(name: str, model: Classifier) -> int:
    """How many features a member has for the network to look at."""
    if not model.feature_width:
        raise UserError(f"model.{name}: its features are not known, from which α would be learned: give model.alpha.")
    return model.feature_width
