"""An iterator that is worked off in a thread of its own, a bounded number of items ahead of who reads them."""

from collections.abc import Iterator
from contextlib import closing
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
#: How long a full queue is waited at before asking whether anybody still reads.
_ASK_AGAIN_S = 0.1


class _End:
    """The last thing in the queue: `error` is what ended the iterator, if anything did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Ahead(Generic[Item]):
    def __init__(self, items: Iterator[Item], depth: int, name: str) -> None:
        self._items, self._queue, self._stopped = items, Queue[Item | _End](depth), Event()
        self._thread = Thread(target=self._produce, name=name, daemon=True)
        self._thread.start()

    def _produce(self) -> None:
        error: BaseException | None = None
        try:
            with closing(self._items):  # type: ignore[type-var]  # a generator: closed in the thread it ran in
                for item in self._items:
                    if not self._put(item):
                        return
        except BaseException as raised:  # noqa: BLE001 (it is the reader's to raise)
            error = raised
        self._put(_End(error))

    def _put(self, item: Item | _End) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_ASK_AGAIN_S)
            except Full:
                continue
            return True
        return False

    def read(self) -> Iterator[Item]:
        try:
            while not isinstance(item := self._queue.get(), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            pass
        self._thread.join()


def ahead(items: Iterator[Item], depth: int, name: str) -> Iterator[Item]:
    """The items of the generator `items`, in order; at most `depth` are held that were not read yet. What it raises is
    raised here. Whoever stops reading early closes what this returns; then the generator is closed, too."""
    yield from _Ahead(items, depth, name).read()
