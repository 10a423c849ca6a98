"""Temperature scaling and mixup where labels are noise: one temperature is not enough, and mixup helps."""

from claims.calibration.trained_networks import Network, Shipped, scaled, scores, shipped
from claims.claim import Claim, Effect
from claims.proving import main
from claims.training import Arm

SOURCE = (
    "Chidambaram and Ge, 2023, arXiv 2306.00740, abstract: temperature scaling degrades with the amount of overlap "
    "between classes, and training of the mixup kind can lead to good calibration; no numbers were at hand, so the "
    "direction alone is judged"
)


def measure(run: Shipped) -> dict[str, float]:
    """On 1,000 test examples, whose labels are noise in the same share: scores before temperature scaling, which is
    fitted to 1,000 held-out ones, and after it (`scaled_`): NLL in nats, the others in points.
    """
    return {**scores("", run.test), **scores("scaled_", scaled(run, run.test))}


def network(rate: float) -> Network:
    """MNIST with so many labels wrong."""
    return Network(f"mnist, {rate:.0%} noise", train=1500, epochs=20, eps=0.1, width=8, warm=0, rate=rate)


CLAIM = Claim(
    name="label_noise",
    says="Where labels are noise, mixup is better calibrated after temperature scaling than plain training.",
    settings=tuple(network(rate) for rate in (0.0, 0.2, 0.4, 0.6)),
    arms=(Arm("plain"), Arm("mixup", {"name": "mixup"})),
    measure=measure,
    effects=(
        Effect(
            "NLL after temperature scaling of plain above that of mixup, nats",
            lambda arms: arms["plain"]["scaled_nll"] - arms["mixup"]["scaled_nll"],
            {},
            SOURCE,
        ),
        Effect(
            "ECE after temperature scaling of plain above that of mixup, points",
            lambda arms: arms["plain"]["scaled_ece"] - arms["mixup"]["scaled_ece"],
            {},
            SOURCE,
        ),
    ),
    minutes=12,
    seeds=5,
    run=shipped,
)

if __name__ == "__main__":
    main(CLAIM)
