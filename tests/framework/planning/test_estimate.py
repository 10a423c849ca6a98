"""Laws of sizes, bytes and modelled times."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.planning.estimate import LAUNCH, Machine, on_one_gpu, step_time
from poise.planning.hardware import GPUS, NETWORKS, mistake
from poise.planning.memory import memory_of, with_fewer_rows
from poise.planning.meters import Work
from poise.planning.network import own_collectives
from poise.planning.stage import Peaks, Sizes
from poise.planning.traffic import Collective
from poise.planning.zero import zero_of
from poise.strategies import STRATEGIES, ZERO

MODEL = Sizes(trained=(4_000_000, 400, 40_000_000), frozen=0, buffers=800, recipes=0, optimizer=44_000_400)
PEAKS = Peaks(kept=100, forward=9_000_000, backward=10_000_000, backward_whole=30_000_000, update=4_000_000)
WORK = [Work(10**12, True, 10**9), Work(0, False, 10**9), Work(10**10, False, 10**6)]
kinds = st.sampled_from(["all_reduce", "all_gather", "reduce_scatter"])
collectives = st.builds(Collective, kinds, st.floats(0, 1e12), st.booleans())
machines = st.builds(
    Machine,
    st.sampled_from(list(GPUS.values())),
    st.sampled_from(list(NETWORKS.values())),
    st.integers(1, 1024),
    st.integers(1, 8),
    st.floats(0.05, 1),
)


@given(kinds, st.floats(1, 1e12), st.integers(2, 1024))
def test_a_ring_sends_less_than_twice_what_it_reduces(kind: str, size: float, ranks: int) -> None:
    sent = Collective(kind, size).sent(ranks)  # type: ignore[arg-type]
    assert size * 0.5 <= sent / (2 if kind == "all_reduce" else 1) < size
    assert Collective("all_reduce", size).sent(ranks) == pytest.approx(
        Collective("reduce_scatter", size).sent(ranks) + Collective("all_gather", size).sent(ranks)
    )
    assert Collective(kind, size).sent(1) == 0  # type: ignore[arg-type]


@given(machines, st.lists(collectives, max_size=4), st.sampled_from(["32-true", "bf16-mixed", "64-true"]))
def test_a_step_takes_what_it_computes_and_waits_for(machine: Machine, sent: list[Collective], precision: str) -> None:
    one, four = (step_time(machine, WORK, sent, precision, parts) for parts in (1, 4))
    assert one.total == one.spent.total + one.waiting
    assert 0 < one.of_peak <= machine.of_peak
    assert one.waiting <= one.network
    assert four.spent.total == pytest.approx(4 * one.spent.total)


@given(machines, st.sampled_from(["32-true", "bf16-mixed", "64-true"]))
def test_many_gpus_are_never_faster_than_so_many_times_one(machine: Machine, precision: str) -> None:
    alone = on_one_gpu(machine, WORK, precision, 2)
    shared_out = step_time(machine, WORK, [], precision, 2)
    assert shared_out.total <= alone.total <= machine.gpus * shared_out.total * (1 + 1e-9)
    assert alone.waiting == 0


def test_what_an_operation_takes_is_told_by_what_bounds_it() -> None:
    spent = Machine(GPUS["h100"], NETWORKS["ib_400"], 1, 1).spent([*WORK, Work(1, False, 1)], "32-true")
    assert spent.arithmetic == pytest.approx(1e12 / 494.5e12 * 2 + 1e10 / 67e12 * 2)
    assert spent.memory == pytest.approx(1e9 / (0.8 * 3350e9))
    assert spent.launches == LAUNCH


def test_an_update_of_weights_takes_one_gpu_no_longer() -> None:
    update = [Work(0, False, 10**9, updates=True)]
    machine = Machine(GPUS["h100"], NETWORKS["ib_400"], 16, 8)
    assert on_one_gpu(machine, update, "32-true", 1).total == step_time(machine, update, [], "32-true", 1).total


@given(st.floats(0.01, 1))
def test_fewer_rows_hold_less_beside_but_for_updates(share: float) -> None:
    fewer = with_fewer_rows(PEAKS, share, MODEL.gradients)
    assert fewer.forward == pytest.approx(share * PEAKS.forward, abs=1)
    assert fewer.backward_whole == fewer.backward + MODEL.gradients
    assert fewer.update - fewer.kept == PEAKS.update - PEAKS.kept


def test_the_slowest_link_of_a_ring_decides() -> None:
    gpu, network = GPUS["a100"], NETWORKS["ethernet_10"]
    assert Machine(gpu, network, 8, 8).bandwidth == 0.8 * gpu.link
    assert Machine(gpu, network, 9, 8).bandwidth == 0.8 * network.bandwidth


@pytest.mark.parametrize("name", ZERO)
def test_more_ranks_never_hold_more_under_zero(name: str) -> None:
    settings = zero_of(name, None, MODEL.trained)
    held = [memory_of(name, MODEL, PEAKS, ranks, settings).total for ranks in (1, 2, 8, 1024)]
    assert held == sorted(held, reverse=True)
    assert (held[0] > held[-1]) == (name not in ("deepspeed_zero1_offload", "deepspeed_zero2_offload"))
    assert (memory_of(name, MODEL, PEAKS, 8, settings).host > 0) == name.endswith("offload")


def test_parts_are_told_whole_under_every_strategy() -> None:
    for name in STRATEGIES:
        found = memory_of(name, MODEL, PEAKS, 4, zero_of(name, None, MODEL.trained))
        assert found.total == sum(found.parts.values()) > PEAKS.kept
        assert min(found.parts.values()) >= 0


def test_what_zero_does_to_tensors_follows_its_settings(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(
        '{"zero_optimization": {"reduce_bucket_size": 1000, "overlap_comm": false, "stage3_max_live_parameters": 1000,'
        ' "stage3_prefetch_bucket_size": 0, "stage3_param_persistence_threshold": 200}}'
    )
    standard, changed = (zero_of("deepspeed_zero3", file, MODEL.trained) for file in (None, str(own)))
    assert standard is not None
    assert changed is not None
    assert (standard.small, standard.shared, standard.buckets) == (400, 44_000_000, 2)
    assert standard.keeps_gathered
    assert (changed.small, changed.bucket, changed.buckets, changed.gathered) == (400, 4000, 1, 4000)
    gathers = [
        [one.kind for one in own_collectives("deepspeed_zero3", 1.0, settings, 1, on_gpus=True)].count("all_gather")
        for settings in (standard, changed)
    ]
    assert gathers == [2, 3], "what was not kept is gathered again"


def test_gloo_scatters_by_reducing() -> None:
    settings = zero_of("deepspeed_zero3", None, MODEL.trained)
    nccl, gloo = (own_collectives("deepspeed_zero3", 8.0, settings, 1, on_gpus) for on_gpus in (True, False))
    assert {one.kind for one in nccl} == {"all_gather", "reduce_scatter"}
    assert {one.kind for one in gloo} == {"all_gather", "all_reduce"}


def test_names_of_hardware() -> None:
    assert not mistake("gpu", "h100", GPUS)
    assert mistake("gpu", "H10", GPUS).endswith("Did you mean 'h100'?")
    for gpu in GPUS.values():
        assert gpu.float64 <= gpu.float32 <= gpu.tf32 <= gpu.bfloat16
        assert gpu.link < gpu.bandwidth
