"""Calibrators beside their authors' code: `python tests/benchmarks/calibrators.py --dirichlet=CHECKOUT …`.

CHECKOUTs are clones of dirichletcal/dirichlet_python (which needs jax), zhang64-llnl/Mix-n-Match-Calibration and
AmirooR/IntraOrderPreservingCalibration. Whichever are given are fitted to the same rows as ours; each table says how
far the objective and the probabilities of other rows are apart, and how long both fits take. `--fit NAME ROWS CLASSES`
says what one fit of ours takes where classes are many.
"""

import argparse
import contextlib
import io
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from poise import registry
from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise_recipes.calibration.affine import centred
from poise_recipes.calibration.dirichlet import Dirichlet
from poise_recipes.calibration.ensemble_temperature import EnsembleTemperature
from poise_recipes.calibration.gaps import UNIT, Ranked, heights
from poise_recipes.calibration.intra_order_preserving import (
    CELLS,
    IntraOrderPreserving,
    along,
    heights_of,
    placed,
    slopes,
)
from poise_recipes.calibration.matrix_scaling import MatrixScaling
from poise_recipes.calibration.order_invariant import OrderInvariant
from poise_recipes.calibration.order_preserving import OrderPreserving
from poise_recipes.calibration.small_network import Network, start
from poise_recipes.calibration.temperature_scaling import TemperatureScaling
from poise_recipes.calibration.vector_scaling import VectorScaling

SIZES = ((500, 4), (2000, 10))
OTHER_ROWS = 5000
HIDDEN, THEIR_STEPS = 10, 200
MOST_LOGITS = 2000  # with more of them their network takes minutes
EPOCHS, BATCH, RATE, DECAY = 40, 256, 5e-3, 5e-4  # of their families that see a whole row

Probabilities = Callable[[Tensor], Tensor]
"""Probabilities [N, C] of logits [N, C]."""

Objective = Callable[[Tensor, Tensor], float]
"""What a fit minimises, of probabilities [N, C] and labels [N]."""


@dataclass(frozen=True)
class Rival:
    """A calibrator of ours and one of its authors.

    Args:
        name: in the table.
        ours: not fitted yet.
        theirs: fits to logits and labels.
        objective: of both, where nothing is added to it that depends on parameters; None where something is.
    """

    name: str
    ours: Calibrator
    theirs: Callable[[Tensor, Tensor], Probabilities]
    objective: Objective | None


def rows(size: int, classes: int, seed: int) -> Predictions:
    """Logits twice as large as honest ones, each class stretched and shifted, a twentieth of the labels drawn anew."""
    keyed = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, classes, generator=keyed, dtype=torch.float64)
    label = torch.multinomial(logits.softmax(1), 1, generator=keyed)[:, 0]
    anew = torch.rand(size, generator=keyed) < 0.05
    label = torch.where(anew, torch.randint(classes, (size,), generator=keyed), label)
    number = torch.arange(classes, dtype=torch.float64)
    bent = 2 * (logits * (1 + 0.3 * number.sin()) + 0.5 * number.cos())
    return Predictions(logits=bent, features=None, label=label, group=None, index=torch.arange(size))


def negative_log_likelihood(probability: Tensor, label: Tensor) -> float:
    """Its mean."""
    return -float(probability.gather(1, label[:, None]).log().mean())


def compared(rival: Rival, size: int, classes: int) -> str:
    """One line of a table."""
    held_out, test = rows(size, classes, 0), rows(OTHER_ROWS, classes, 1)
    start = time.process_time()
    rival.ours.fit(held_out)
    middle = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = rival.theirs(held_out.logits, held_out.label)
    end = time.process_time()
    cells = [f"{size} x {classes}", rival.name]
    fits: tuple[Probabilities, Probabilities] = (lambda logits: rival.ours(logits).exp(), theirs)
    objective = rival.objective
    if objective is not None:
        ours, other = (objective(fit(held_out.logits), held_out.label) for fit in fits)
        cells += [f"{ours:.8f}", f"{other:.8f}", f"{ours - other:.0e}"]
    else:
        cells += ["", "", ""]
    probability, other_probability = (fit(test.logits) for fit in fits)
    cells += [f"{float((probability - other_probability).abs().max()):.0e}"]
    return f"| {' | '.join([*cells, f'{middle - start:.2f}', f'{end - middle:.2f}'])} |"


def table(rivals: Callable[[int, int], Iterator[Rival]]) -> None:
    """Print one."""
    print("\n| rows | fit | objective | theirs | ours less theirs | probabilities apart by | s | theirs |")
    print("|" + " --- |" * 8)
    for size, classes in SIZES:
        for rival in rivals(size, classes):
            print(compared(rival, size, classes), flush=True)


# -- dirichletcal --------------------------------------------------------------------------------------------------


def dirichlet(size: int, classes: int) -> Iterator[Rival]:
    """Their three affine maps; penalties are the same numbers, the diagonal without any."""
    from dirichletcal.calib.fulldirichlet import FullDirichletCalibrator  # type: ignore[import-not-found]
    from dirichletcal.calib.matrixscaling import MatrixScaling as TheirMatrix  # type: ignore[import-not-found]
    from dirichletcal.calib.vectorscaling import VectorScaling as TheirVector  # type: ignore[import-not-found]

    def fitting(made: object, inputs: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Probabilities]:
        def fit(logits: Tensor, label: Tensor) -> Probabilities:
            made.fit(inputs(logits).numpy(), label.numpy())  # type: ignore[attr-defined]
            return lambda other: torch.from_numpy(
                np.array(made.predict_proba(inputs(other).numpy()))  # type: ignore[attr-defined]
            )

        return fit

    def softmax(logits: Tensor) -> Tensor:
        return logits.softmax(1)

    loss = negative_log_likelihood
    off, mu = classes * (classes - 1) / size, classes / size
    odir = FullDirichletCalibrator(reg_lambda=off, reg_mu=mu, ref_row=False)
    yield Rival("vector scaling", VectorScaling(0.0), fitting(TheirVector(logit_input=True), centred), loss)
    yield Rival("matrix scaling", MatrixScaling(0.0), fitting(TheirMatrix(logit_input=True), centred), loss)
    yield Rival("Dirichlet", Dirichlet(0.0, 0.0, 0.0), fitting(FullDirichletCalibrator(), softmax), loss)
    yield Rival("Dirichlet, ODIR", Dirichlet(1.0, 1.0, 0.0), fitting(odir, softmax), None)


# -- Mix-n-Match ---------------------------------------------------------------------------------------------------


def mix_n_match(size: int, classes: int) -> Iterator[Rival]:
    """Their ensemble temperature scaling with the likelihood as objective."""
    import util_calibration  # type: ignore[import-not-found]

    def fit(logits: Tensor, label: Tensor) -> Probabilities:
        known = logits.numpy(), torch.nn.functional.one_hot(label, classes).double().numpy()
        temperature = util_calibration.temperature_scaling(*known, "ce")
        weights = util_calibration.ensemble_scaling(*known, "ce", temperature, classes)

        def mixed(other: Tensor) -> Tensor:
            parts = (other / float(temperature[0])).softmax(1), other.softmax(1), torch.full_like(other, 1 / classes)
            return torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum(0)

        return mixed

    yield Rival("ensemble temperature", EnsembleTemperature(0.05, 5.0), fit, negative_log_likelihood)


# -- intra order-preserving functions ------------------------------------------------------------------------------


def intra_order_preserving(size: int, classes: int) -> Iterator[Rival]:
    """Their diagonal family with two layers of ten units and L-BFGS; ours as it is, and free as theirs is."""
    from models.monotonic_model import MonotonicModel  # type: ignore[import-not-found]

    def fit(logits: Tensor, label: Tensor) -> Probabilities:
        torch.manual_seed(0)
        model = MonotonicModel([HIDDEN, HIDDEN], 50, "cpu", classes).double()
        optimizer = torch.optim.LBFGS(model.parameters(), 0.1, THEIR_STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = torch.nn.functional.cross_entropy(model(logits), label)
            value.backward()
            return value

        optimizer.step(loss)
        return lambda other: model(other).detach().softmax(1)

    for strength in (0.0, 1.0) if size * classes <= MOST_LOGITS else ():
        name = f"intra order-preserving, strength {strength:g}"
        yield Rival(name, IntraOrderPreserving(HIDDEN, strength), fit, negative_log_likelihood)
    yield Rival("the same weights", _SameWeights(), lambda logits, label: _their_map(), None)
    yield from gaps(size, classes)


class _SameWeights(Calibrator):
    """The map of a network that is not fitted, on the grid that a fit would take."""

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "_SameWeights":
        """Nothing."""
        return self

    def forward(self, logits: Tensor) -> Tensor:
        """Log-probabilities."""
        knots = torch.linspace(float(logits.min()), float(logits.max()), CELLS + 1, dtype=torch.float64)
        slope = slopes(_weights(), (knots[1:, None] + knots[:-1, None]) / 2)
        return along(heights_of(slope, knots), slope, *placed(logits, knots)).log_softmax(1)


def _weights() -> Network:
    """Of a network whose slope is not the same everywhere."""
    network = start(torch.device("cpu"), HIDDEN)
    return [*network[:4], network[4] + torch.linspace(-0.5, 0.5, HIDDEN, dtype=torch.float64), network[5]]


def _their_map() -> Probabilities:
    """Their map with the same weights."""
    from models.monotonic_model import MonotonicModel

    model = MonotonicModel([HIDDEN, HIDDEN], 50, "cpu").double()
    layers = [layer for layer in model.model_monotonic.integrand.net if isinstance(layer, torch.nn.Linear)]
    first, first_bias, *others = _weights()
    values = [torch.cat([first, torch.zeros_like(first)], 1), first_bias, *others]  # a second input of theirs is 0
    with torch.no_grad():
        for parameter, value in zip([p for layer in layers for p in layer.parameters()], values, strict=True):
            parameter.copy_(value)
    return lambda logits: model(logits).detach().softmax(1)


def gaps(size: int, classes: int) -> Iterator[Rival]:
    """Their families that see a whole row, with two layers of ten units and Adam; and both maps of the same weights."""
    for name, ours, invariant in (("invariant", OrderInvariant, True), ("preserving", OrderPreserving, False)):
        fit = _their_training(classes, invariant)
        yield Rival(f"order-{name}", ours(HIDDEN), fit, negative_log_likelihood)
        network = _random_network(classes)
        yield Rival(
            f"order-{name}, the same weights",
            _SameFactors(network, invariant),
            partial(_their_factors, network, invariant),
            None,
        )


def _their_training(classes: int, invariant: bool) -> Callable[[Tensor, Tensor], Probabilities]:
    """Their training, without folds."""

    def fit(logits: Tensor, label: Tensor) -> Probabilities:
        torch.manual_seed(0)
        model = _their_model(classes, invariant)
        optimizer = torch.optim.Adam(model.parameters(), RATE, weight_decay=DECAY)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(label)).split(BATCH):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(logits[rows]), label[rows]).backward()
                optimizer.step()
        return lambda other: model(other).detach().softmax(1)

    return fit


class _SameFactors(Calibrator):
    """The map of a network that is not fitted and sees logits as they are."""

    def __init__(self, network: Network, invariant: bool) -> None:
        super().__init__()
        self.network, self.invariant = network, invariant

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "_SameFactors":
        """Nothing."""
        return self

    def forward(self, logits: Tensor) -> Tensor:
        """Log-probabilities."""
        ranked = Ranked.of(logits, torch.ones(()))
        seen = logits.sort(1, descending=True).values if self.invariant else logits
        return heights(self.network, seen, ranked.falling).gather(1, ranked.rank).log_softmax(1)


def _random_network(classes: int) -> Network:
    """Of a network that multiplies each gap by another factor."""
    keyed = torch.Generator().manual_seed(0)
    network = start(torch.device("cpu"), HIDDEN, classes, classes - 1)
    return [*network[:4], torch.randn(classes - 1, HIDDEN, generator=keyed, dtype=torch.float64), network[5]]


def _their_factors(network: Network, invariant: bool, logits: Tensor, label: Tensor) -> Probabilities:
    """Their map with the same weights: answers the other way round, after one that theirs does not use."""
    *hidden, last, last_bias = network
    classes = len(last) + 1
    model = _their_model(classes, invariant)
    unused = torch.zeros(1, HIDDEN, dtype=torch.float64)
    values = [*hidden, torch.cat([unused, last.flip(0)]), torch.cat([unused[0, :1], last_bias.flip(0) + UNIT])]
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)
    return lambda other: model(other).detach().softmax(1)


def _their_model(classes: int, invariant: bool) -> torch.nn.Module:
    from models.fc_model import FCModel  # type: ignore[import-not-found]
    from models.order_preserving_model import OrderPreservingModel  # type: ignore[import-not-found]

    model: torch.nn.Module = OrderPreservingModel(FCModel([HIDDEN, HIDDEN], num_classes=classes), invariant).double()
    return model


def elsewhere() -> None:
    """Print what fits of families that see a whole row come to on other rows."""
    print("\n| fitted to | map | NLL of other rows | theirs | temperature scaling |")
    print("|" + " --- |" * 5)
    for size, classes in SIZES:
        held_out, test = rows(size, classes, 0), rows(OTHER_ROWS, classes, 1)
        one = TemperatureScaling().fit(held_out)(test.logits).exp()
        for rival in gaps(size, classes):
            if rival.objective is None:
                continue
            ours = rival.ours.fit(held_out)(test.logits).exp()
            theirs = rival.theirs(held_out.logits, held_out.label)(test.logits)
            cells = [f"{negative_log_likelihood(each, test.label):.4f}" for each in (ours, theirs, one)]
            print(f"| {' | '.join([f'{size} x {classes}', rival.name, *cells])} |", flush=True)


# -- many classes --------------------------------------------------------------------------------------------------


def like_a_network(size: int, classes: int) -> Predictions:
    """Single-precision logits of classes that have directions of 64 dimensions: too sure, two of five rows right."""
    keyed = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(classes, 64, generator=keyed))
    label = torch.randint(classes, (size,), generator=keyed)
    seen = 6 * directions[label] + 1.9 * torch.randn(size, 64, generator=keyed)
    return Predictions.of(2.2 * seen @ directions.t() + 0.3 * torch.randn(classes, generator=keyed), label)


def fit(name: str, size: int, classes: int) -> None:
    """Print the processor's seconds of one fit, and the memory that it takes at most beside the logits."""
    calibrator, held_out = registry.build("calibrator", name), like_a_network(size, classes)
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    start = time.process_time()
    calibrator.fit(held_out)
    taken = time.process_time() - start
    above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(f"| {size} x {classes} | {name} | {taken:.1f} | {above / 2**30:.2f} |")


def main() -> None:
    """Print a table for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    checkouts = {"dirichlet": dirichlet, "mix-n-match": mix_n_match, "iop": intra_order_preserving}
    for name in checkouts:
        parser.add_argument(f"--{name}", metavar="CHECKOUT", help="of the authors' code")
    parser.add_argument("--fit", nargs=3, metavar=("NAME", "ROWS", "CLASSES"), help="of one calibrator of ours alone")
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    if options["fit"] is not None:
        name, size, classes = options["fit"]
        fit(name, int(size), int(classes))
    for name, rivals in checkouts.items():
        checkout = options[name.replace("-", "_")]
        if checkout is not None:
            sys.path.insert(0, checkout)
            table(rivals)
    if options["iop"] is not None:
        elsewhere()


if __name__ == "__main__":
    main()
