"""TRADES with a small and a large β: the large one gives up clean accuracy and gains robust accuracy."""

from claims.claim import Claim, Effect
from claims.measures import of_the_shipped
from claims.proving import main
from claims.training import Arm, Setting

SOURCE = (
    "Zhang et al., 2019, arXiv 1901.08573, section 5.2: a larger β = 1/λ trades clean for robust accuracy; the table's "
    "numbers could not be read again, so the direction alone is judged"
)

CLAIM = Claim(
    name="trades_beta",
    says="In TRADES a larger β lowers clean accuracy and raises robust accuracy.",
    settings=(
        Setting("mnist", train=1500, epochs=10, eps=0.1),
        Setting("cifar10", train=1500, epochs=10, eps=8 / 255),
    ),
    arms=(
        Arm("beta 1", {"name": "trades", "trades": {"beta": 1.0}}),
        Arm("beta 6", {"name": "trades", "trades": {"beta": 6.0}}),
    ),
    measure=of_the_shipped,
    effects=(
        Effect(
            "clean accuracy of beta 6 below that of beta 1, points",
            lambda arms: arms["beta 1"]["clean"] - arms["beta 6"]["clean"],
            {},
            SOURCE,
        ),
        Effect(
            "robust accuracy of beta 6 above that of beta 1, points",
            lambda arms: arms["beta 6"]["robust"] - arms["beta 1"]["robust"],
            {},
            SOURCE,
        ),
    ),
    minutes=19,
)

if __name__ == "__main__":
    main(CLAIM)
