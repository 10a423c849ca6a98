"""Calibrators beside their authors' code: `python tests/benchmarks/calibrators.py --dirichlet=CHECKOUT …`.

CHECKOUTs are clones of dirichletcal/dirichlet_python (which needs jax) and zhang64-llnl/Mix-n-Match-Calibration.
Whichever are given are fitted to the same rows as ours; each table says how far the objective and the probabilities of
other rows are apart, and how long both fits take.
"""

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise_recipes.calibration.affine import centred
from poise_recipes.calibration.dirichlet import Dirichlet
from poise_recipes.calibration.ensemble_temperature import EnsembleTemperature
from poise_recipes.calibration.matrix_scaling import MatrixScaling
from poise_recipes.calibration.vector_scaling import VectorScaling

SIZES = ((500, 4), (2000, 10))
OTHER_ROWS = 5000

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


def main() -> None:
    """Print a table for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    checkouts = {"dirichlet": dirichlet, "mix-n-match": mix_n_match}
    for name in checkouts:
        parser.add_argument(f"--{name}", metavar="CHECKOUT", help="of the authors' code")
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    for name, rivals in checkouts.items():
        checkout = options[name.replace("-", "_")]
        if checkout is not None:
            sys.path.insert(0, checkout)
            table(rivals)


if __name__ == "__main__":
    main()
