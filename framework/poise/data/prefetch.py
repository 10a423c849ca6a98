"""Reading the next batch while the last one is trained on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from poise.data.dataset import Arrays
from poise.data.stored import Stored

Asked = TypeVar("Asked")
Read = TypeVar("Read")

AHEAD = 2  # reads that have been asked for and not been taken


def fetched(read: Callable[[Asked], Read], items: Iterable[Asked], of: Iterable[Arrays]) -> Iterator[Read]:
    """What `map(read, items)` gives, read ahead where the inputs of some split are stored.

    Of tensors a batch is read in less time than a thread takes to hand it over.
    """
    if any(isinstance(split.x, Stored) for split in of):
        return ahead(read, items)
    return map(read, items)


def ahead(read: Callable[[Asked], Read], items: Iterable[Asked]) -> Iterator[Read]:
    """What `map(read, items)` gives, read in a thread before it is asked for.

    Items are taken in the caller's thread; what a read raises is raised where its result would come. The thread ends
    with the iteration, also with one that is given up.
    """
    coming: deque[Future[Read]] = deque()
    thread = ThreadPoolExecutor(1, thread_name_prefix="poise-data")
    try:
        for item in items:
            coming.append(thread.submit(read, item))
            if len(coming) > AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
