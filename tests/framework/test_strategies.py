import pytest

from poise.config import ConfigErrors, compose


def test_what_shares_parameters_out_refuses_who_needs_them_whole() -> None:
    for name in ("deepspeed_zero3", "deepspeed_zero3_offload"):
        with pytest.raises(ConfigErrors, match="awp"):
            compose({"recipe": "pgd_at,awp", "strategy": name})
    compose({"recipe": "pgd_at,awp", "strategy": "deepspeed_zero2_offload"})
