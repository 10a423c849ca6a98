"""How sure adversarially trained networks are, and what calibration is worth under shift."""

from claims.calibration.trained_networks import Network, Shipped, noisy_pictures, scaled, scores, shipped
from claims.claim import Claim, Effect
from claims.proving import main
from claims.training import Arm

SURE = (
    "Grabinski et al., 2022, arXiv 2210.05938, abstract: adversarially trained models are significantly less "
    "over-confident than others, on clean data too; the direction alone is judged"
)
SHIFTED = (
    "Ovadia et al., 2019, arXiv 1906.02530, abstract: calibration fitted to data as they are falls short under shift; "
    "the direction alone is judged"
)


def measure(run: Shipped) -> dict[str, float]:
    """On 1,000 test examples, as they are and under Gaussian noise of severity 3 (`shift_`), before temperature
    scaling, which is fitted to 1,000 held-out ones as they are, and after it (`scaled_`): NLL in nats, the others in
    points; `gap` is mean confidence less accuracy.
    """
    shift = noisy_pictures(run, severity=3)
    return {
        **scores("", run.test),
        **scores("scaled_", scaled(run, run.test)),
        **scores("shift_", shift),
        **scores("shift_scaled_", scaled(run, shift)),
    }


PLAIN = Network("cifar10", train=2000, epochs=15, eps=8 / 255, warm=0, source="cifar10")

CLAIM = Claim(
    name="robust_confidence",
    says="Adversarial training makes networks less over-confident; a temperature fitted to clean data fails on shifts.",
    settings=(PLAIN,),
    arms=(Arm("plain"), Arm("pgd_at", {"name": "pgd_at", "pgd": {"steps": 5}})),
    measure=measure,
    effects=(
        Effect(
            "confidence less accuracy of plain above that of pgd_at, points",
            lambda arms: arms["plain"]["gap"] - arms["pgd_at"]["gap"],
            {},
            SURE,
        ),
        Effect(
            "ECE of plain after temperature scaling under shift above that on clean inputs, points",
            lambda arms: arms["plain"]["shift_scaled_ece"] - arms["plain"]["scaled_ece"],
            {},
            SHIFTED,
        ),
    ),
    minutes=15,
    seeds=5,
    run=shipped,
)

if __name__ == "__main__":
    main(CLAIM)
