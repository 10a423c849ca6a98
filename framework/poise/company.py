"""Ranks keep each other company: they show that they live, wait for one that works alone, and say who was lost.

All of it goes through the store at which they have met, which no collective's time-out ends.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import torch
import torch.distributed as dist

from poise.launching import FALLEN, LOST, MEMORY, OWN_LAUNCHER, WHO, RankLost, under_launcher
from poise.secrets import redact

BEAT = 0.5  # seconds between two signs of life
SILENCE = 3.0  # seconds after which one that gives none is dead or stopped
SHORTEST, LONGEST = 0.005, 0.2  # seconds between two looks at whether the others have come
WORD = "word"  # key of what was said first of a failure
OF_COLLECTIVES = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
TIMED_OUT = ("timed out", "timeout", "time out")
SAID = 200  # characters of what a rank failed of
NO_STORE = "the ranks have lost where they met: rank 0, or who started them, has ended"


class Company:
    """The ranks of one run, as this process sees them.

    Args:
        timeout: seconds without a sign of life after which a rank is lost.
        number: of companies that this process has kept before; the same on every rank.
    """

    def __init__(self, timeout: float, number: int) -> None:
        self.timeout = timeout
        self.prefix = f"poise/company/{number}"
        self._met = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="poise-company", daemon=True)

    def __enter__(self) -> "Company":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def meet(self) -> None:
        """Return once every rank has come here; one that lives is waited for, however long it takes.

        Raises:
            RankLost: one has failed, or shows no sign of life.
        """
        self._met += 1
        rank, others = dist.get_rank(), dist.get_world_size() - 1
        if rank == 0:
            self._await("came", self._met * others, range(1, others + 1))
            self._store.add("done", 1)
            self._await("left", self._met * others, range(1, others + 1))  # the store may end with this process
        else:
            self._store.add("came", 1)
            self._await("done", self._met, [0])
            self._store.add("left", 1)

    def leave_word(self, error: Exception) -> None:
        """Tell the others what this rank fails of."""
        said = " ".join(redact(f"{type(error).__name__}: {error}").split())
        self._store.compare_set(WORD, "", f"rank {dist.get_rank()} failed: {said[:SAID]}")

    def lost(self, error: Exception) -> RankLost:
        """Who was lost, where a collective has failed."""
        timed_out = any(sign in str(error).lower() for sign in TIMED_OUT)
        if OWN_LAUNCHER in os.environ and not timed_out:
            return RankLost(code=LOST)  # who started the ranks sees which has ended, and of what
        if self._store.check([WORD]):
            return self._leave("")
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # it ends already, and is to say why
        before = self._beats(range(dist.get_world_size()))
        time.sleep(SILENCE)
        silent = [rank for rank, beat in self._beats(before).items() if beat == before[rank]]
        if not silent:
            return self._leave(f"the ranks do not come to the same place (trainer.timeout): {str(error)[:SAID]}")
        return self._leave(self._no_answer(silent) if timed_out else f"{_ranks(silent)} ended without a word, {MEMORY}")

    @property
    def _store(self) -> Any:
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        return PrefixStore(self.prefix, dist.distributed_c10d._get_default_store())

    def _await(self, key: str, target: int, others: Iterable[int]) -> None:
        heard: dict[int, tuple[int, float]] = {}
        pause, look = SHORTEST, time.monotonic() + SILENCE
        while self._store.add(key, 0) < target:
            if self._store.check([WORD]):
                raise self._leave("")
            if OWN_LAUNCHER in os.environ and _whole(self._store).check([FALLEN]):
                raise RankLost(code=LOST)
            if time.monotonic() > look:
                look += SILENCE
                self._listen(heard, others)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)

    def _listen(self, heard: dict[int, tuple[int, float]], others: Iterable[int]) -> None:
        """Note when each of the others was heard last."""
        now = time.monotonic()
        for rank, beat in self._beats(others).items():
            if rank not in heard or heard[rank][0] != beat:
                heard[rank] = beat, now
        if silent := [rank for rank, (_, last) in heard.items() if now - last > self.timeout]:
            raise self._leave(self._no_answer(silent))

    def _no_answer(self, silent: list[int]) -> str:
        return f"{_ranks(silent)} did not answer for {self.timeout:g} s (trainer.timeout)"

    def _leave(self, word: str) -> RankLost:
        """Say it, where no rank has said another thing first; that is what stands. Who started the ranks tells it."""
        first = self._store.compare_set(WORD, "", word).decode()
        if OWN_LAUNCHER not in os.environ:
            return RankLost(first)
        if first == word:
            _whole(self._store).set(WHO, word)
        return RankLost(first, LOST)

    def _beats(self, ranks: Iterable[int]) -> dict[int, int]:
        return {rank: self._store.add(f"beat/{rank}", 0) for rank in ranks}

    def _live(self) -> None:
        while not self._ended.wait(BEAT):
            if dist.is_initialized():
                with suppress(RuntimeError):  # where the store is gone others end as well, and say so
                    self._store.add(f"beat/{dist.get_rank()}", 1)


_kept: list[Company] = []
_numbers = count()


@contextmanager
def kept(timeout: float) -> Iterator[None]:
    """Keep the other ranks company meanwhile, where there are any.

    Args:
        timeout: seconds without a sign of life after which a rank is lost.

    Raises:
        RankLost: in place of a collective's failure, with who was lost.
    """
    if not under_launcher():
        yield
        return
    with Company(timeout, next(_numbers)) as company:
        _kept.append(company)
        try:
            yield
        except RankLost:
            raise
        except Exception as error:
            if dist.is_initialized() and dist.get_world_size() > 1:
                _explain(company, error)
            raise
        finally:
            _kept.remove(company)


def meet() -> None:
    """Return once every rank has come here: patiently inside `kept`, else as a collective does."""
    if _kept:
        _kept[-1].meet()
    elif dist.get_backend() == "nccl":
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


def _explain(company: Company, error: Exception) -> None:
    """Leave word of what this rank fails of; where it is of the others, raise that."""
    try:
        if not _is_of_a_collective(error):
            company.leave_word(error)
            return
        lost = company.lost(error)
    except RuntimeError:
        raise RankLost(NO_STORE) from error
    raise lost from error


def _whole(store: Any) -> Any:
    """The store without the prefixes that PyTorch and we put before its keys."""
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    return store


def _is_of_a_collective(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OF_COLLECTIVES)


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
