"""What a real step takes: bytes that PyTorch's allocator gave, bytes that went into sockets, passes of the model.

Memory is every block that the CPU's allocator gave and did not get back since the model was built, as PyTorch's
profiler records them with their addresses: the most during the third step. Bytes on the network are what the kernel
counts as acknowledged on the TCP sockets of this very process, gloo's, so nobody else's are among them.
"""

import gc
import os
import socket
import struct
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function

from contracts import kit
from poise.build import Built
from poise.config import compose
from poise.console import without_chatter
from poise.distributed import current_ranks, strategy
from poise.given import Objects
from poise.parts import load_splits

STEPS = 3  # the last of which is looked at
NAME = "the step that is looked at"
BYTES_ACKED = 120  # where struct tcp_info of linux/tcp.h has tcpi_bytes_acked


def measure(values: dict[str, Any]) -> dict[str, Any]:
    """Train three steps of a config on this process's ranks; peak and sent bytes, and passes, of the last."""
    config = compose(values, [])
    splits, ranks, window = load_splits(config, Objects()), current_ranks(), Window()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        built = Built(config, Objects(data=splits))
        built.admit()
        with kit.counted_passes(built.model) as window.passes, without_chatter():
            trainer = L.Trainer(
                max_epochs=1,
                max_steps=STEPS,
                accelerator="cpu",
                devices=ranks.size,
                strategy=strategy(
                    config.strategy,
                    world_size=ranks.size,
                    accelerator="cpu",
                    precision=config.trainer.precision,
                    deepspeed=config.deepspeed,
                ),
                precision=config.trainer.precision,
                accumulate_grad_batches=config.trainer.accumulate,
                callbacks=[window],
                logger=False,
                log_every_n_steps=1000,
                limit_val_batches=0,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                inference_mode=False,
            )
            trainer.fit(built.module, built.data)
    return {"memory": _most(seen), "sent": window.sent, "passes": window.counted}


class Window(Callback):
    """Looks at the last step."""

    def __init__(self) -> None:
        self.passes = kit.Counted()
        self.counted: list[int] = []
        self.sent = 0

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == STEPS - 1:
            gc.collect()
            self.sent, self.counted = bytes_sent(), self._count()
            self._span = record_function(NAME).__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == STEPS:
            self._span.__exit__(None, None, None)
            time.sleep(0.05)  # until all is acknowledged
            self.sent = bytes_sent() - self.sent
            self.counted = [now - then for now, then in zip(self._count(), self.counted, strict=True)]

    def _count(self) -> list[int]:
        seen = self.passes
        return [seen.forwards, seen.input_backwards, seen.full_backwards]


def bytes_sent() -> int:
    """What left this process through TCP so far, and has come to its end."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as one:
                    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += struct.unpack_from("Q", info, BYTES_ACKED)[0]
        except OSError:
            continue  # no TCP, or closed since it was listed
    return total


def _most(seen: profile) -> int:
    assert seen.profiler is not None
    results = seen.profiler.kineto_results
    assert results is not None
    span = next(event for event in results.events() if event.name() == NAME)
    begin, end = span.start_ns(), span.start_ns() + span.duration_ns()
    known: dict[int, int] = {}
    live = most = 0
    for when, _, address, size in sorted(_allocations(results.experimental_event_tree())):
        live -= known.pop(address, 0)  # an address that comes again was given back by a thread of gloo's, unseen
        if size > 0:
            known[address] = size
            live += size
        if begin <= when <= end:
            most = max(most, live)
    return most


def _allocations(tree: Any) -> list[tuple[int, int, int, int]]:
    """When, in which order, at which address and how much, negative where it is given back."""
    found, waiting = [], list(tree)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == _EventType.Allocation:
            block = event.extra_fields
            found.append((event.start_time_ns, event.id, block.ptr, block.alloc_size))
    return found
