from poise.conformal import robust
from poise.meanings import meaning
from poise.metrics import Accuracy
from poise.uncertainty.energy import energy


class Said:
    """What `x` is, float64: this.

    And more.
    """


class Silent:
    pass


def test_the_first_line_says_it_without_marks() -> None:
    assert meaning(Said) == meaning(Said()) == "What x is: this"
    assert meaning(Silent) == ""


def test_classes_their_objects_functions_and_modules_have_one() -> None:
    for named in (Accuracy, Accuracy(), energy, robust, Said):
        assert meaning(named)
