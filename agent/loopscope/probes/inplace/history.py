"""History: which line made each node of the graph, and what was written to the storages that nodes may have saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .places import Inner, Place, Trail

__all__ = ["History", "Layout", "Made", "Store", "Twin", "Write"]

_MAX_MADE = 100_000
_MAX_STORES = 200_000
_MAX_PER_STORE = 64
"""Uses and writes of one storage that are remembered, the latest."""
_MAX_SNAPSHOT_BYTES = 16 * 2**20
_MAX_SNAPSHOTS_BYTES = 128 * 2**20


class Layout(NamedTuple):
    """Which elements of a storage a tensor has."""

    item_bytes: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        """Return that of a tensor."""
        return cls(tensor.element_size(), int(tensor.storage_offset()), tuple(map(int, tensor.size())), tensor.stride())

    @property
    def end(self) -> int:
        """One more than the last element's place."""
        return self.offset + 1 + sum((size - 1) * step for size, step in zip(self.size, self.stride, strict=True))


class Twin(NamedTuple):
    """What an operator of a checkpointed region and its recomputation have in common, and no other has."""

    call: int
    """Which call of `checkpoint`."""
    operator: str
    inner: Inner
    ordinal: int
    """Which one it is of the nodes of its operator and line in one run of the region."""


@dataclass(slots=True, eq=False)
class Made:
    """A node of the graph: the operator and the line that made it, and the storages it may have saved."""

    sequence: int
    time: int
    """Operators seen before."""
    end: int
    """The same for the last operator of a custom function's forward."""
    operator: str
    trail: Trail
    region: str | None
    """Whose saved-tensor hooks were on: `checkpoint`, `save_on_cpu`, ..., None without any."""
    is_function: bool = False
    is_recomputed: bool = False
    twin: Twin | None = None
    """What its recomputation, or the operator that it recomputes, has as well."""
    stores: tuple[int, ...] = ()

    @property
    def place(self) -> Place | None:
        """Where it was made."""
        return self.trail.place

    @property
    def call(self) -> int | None:
        """The checkpointed call that it belongs to."""
        return None if self.twin is None else self.twin.call

    def is_twin_of(self, other: Made) -> bool:
        """Whether it is the recomputation of the same operator."""
        return self.is_recomputed and self.twin is not None and self.twin == other.twin


@dataclass(slots=True, eq=False)
class Write:
    """An operator that wrote to a storage."""

    time: int
    operator: str
    trail: Trail
    sequence: int
    shape: tuple[int, ...]
    dtype: str
    version: int | None
    """The tensor's version before it, None where it has none."""
    is_leaf: bool = False
    """Whether it was a weight that it wrote to."""
    node: int | None = None
    """The node in whose backward, or in whose own forward, it happened."""
    layout: Layout | None = None
    """Which of the storage's elements it wrote."""
    snapshot: Any = None
    """The storage's bytes before, where they may be needed."""
    call: int | None = None
    """The checkpointed call that it is part of."""

    @property
    def place(self) -> Place | None:
        """Where it wrote."""
        return self.trail.place


@dataclass(slots=True, eq=False)
class Store:
    """A storage: the weak reference keeps its address from being used again."""

    reference: StorageWeakRef
    born: int
    uses: list[Made] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    producer: Made | None = None

    def first_write(self, after: int) -> Write | None:
        """Return the first write after a time."""
        return next((write for write in self.writes if write.time > after), None)


class History:
    """What an armed step did; dropped as a whole when it ends."""

    def __init__(self) -> None:
        self.time = self.last_write = 0
        self.made: dict[int, Made] = {}
        self.stores: dict[int, Store] = {}
        self.places: dict[tuple[int | None, str, Inner], Place] = {}
        """Where writes inside of checkpointed regions stand: a recomputation is called from backward."""
        self.originals: dict[Twin, Made] = {}
        """What recomputations recompute."""
        self._num_snapshot_bytes = 0

    def store_of(self, tensor: Tensor) -> tuple[int, Store] | None:
        """Return the storage of a tensor, a new one where it has not been seen; None where it has none to speak of."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        store = self.stores.get(key)
        if store is None:
            if len(self.stores) >= _MAX_STORES:
                return None
            store = self.stores[key] = Store(StorageWeakRef(storage), self.time)  # type: ignore[no-untyped-call]  # torch
        return key, store

    def stores_of(self, tensors: Iterable[Tensor]) -> list[tuple[int, Store]]:
        """Return the same for several tensors."""
        return [found for tensor in tensors if (found := self.store_of(tensor)) is not None]

    def add_made(self, made: Made, stores: list[tuple[int, Store]]) -> None:
        """Note a node and the storages it has to do with."""
        if len(self.made) >= _MAX_MADE:
            self._forget(self.made.pop(next(iter(self.made))))
        self.made[made.sequence] = made
        if made.twin is not None and not made.is_recomputed:
            self.originals[made.twin] = made
        self.extend(made, stores)

    def extend(self, made: Made, stores: list[tuple[int, Store]]) -> None:
        """Note further storages that a node has to do with."""
        for key, store in stores:
            if key not in made.stores:
                made.stores += (key,)
                store.uses.append(made)
                if len(store.uses) > _MAX_PER_STORE:
                    del store.uses[0]

    def add_write(self, store: Store, write: Write) -> None:
        """Note a write."""
        self.last_write = write.time
        store.writes.append(write)
        del store.writes[:-_MAX_PER_STORE]

    def writes_after(self, made: Made) -> Iterator[Write]:
        """Yield the first write to each storage of a node since it was made."""
        for key in made.stores:
            store = self.stores.get(key)
            write = store.first_write(made.end) if store is not None and store.born <= made.end else None
            if write is not None:
                yield write

    def snapshot(self, tensor: Tensor) -> Any:
        """Return a copy of the storage's bytes, None where it is too large or there are too many."""
        storage = tensor.untyped_storage()
        num_bytes = storage.nbytes()
        if num_bytes > _MAX_SNAPSHOT_BYTES or self._num_snapshot_bytes + num_bytes > _MAX_SNAPSHOTS_BYTES:
            return None
        self._num_snapshot_bytes += num_bytes
        return storage.clone()  # type: ignore[no-untyped-call]  # torch

    def _forget(self, made: Made) -> None:
        if made.twin is not None and self.originals.get(made.twin) is made:
            del self.originals[made.twin]

    def prune(self) -> None:
        """Forget the storages that are gone, and the copies of what they held."""
        gone = [key for key, store in self.stores.items() if store.reference.expired()]  # type: ignore[no-untyped-call]  # torch
        for key in gone:
            del self.stores[key]
        self._num_snapshot_bytes = sum(
            write.snapshot.nbytes()
            for store in self.stores.values()
            for write in store.writes
            if write.snapshot is not None
        )
