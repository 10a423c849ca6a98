"""WEAT, both variants, beside TRADES: weights by energy raise robust accuracy."""

from claims.claim import Claim, Effect
from claims.measures import of_the_shipped
from claims.proving import main
from claims.training import Arm, Setting

SOURCE = (
    "Mirza et al., 2024, arXiv 2407.06315, ResNet-18 on CIFAR-10 under PGD, from notes on the paper: TRADES 52.65, "
    "WEAT_nat 52.43, WEAT_adv 53.35"
)

CLAIM = Claim(
    name="weat_beside_trades",
    says="Weighing TRADES by the energy of the clean input raises robust accuracy, with its label loss under attack.",
    settings=(
        Setting("mnist", train=1200, epochs=8, eps=0.1),
        Setting("cifar10", train=1200, epochs=8, eps=8 / 255),
    ),
    arms=(
        Arm("trades", {"name": "trades"}),
        Arm("weat_nat", {"name": ["trades", "weat"]}),
        Arm("weat_adv", {"name": ["trades", "weat"], "trades": {"label_on": "attacked"}}),
    ),
    measure=of_the_shipped,
    effects=(
        Effect(
            "robust accuracy of weat_adv above that of trades, points",
            lambda arms: arms["weat_adv"]["robust"] - arms["trades"]["robust"],
            {"cifar10": 0.70},
            SOURCE,
        ),
        Effect(
            "robust accuracy of weat_adv above that of weat_nat, points",
            lambda arms: arms["weat_adv"]["robust"] - arms["weat_nat"]["robust"],
            {"cifar10": 0.92},
            SOURCE,
        ),
    ),
    minutes=18,
)

if __name__ == "__main__":
    main(CLAIM)
