"""A container's rows in the store: specification, status, and the name that no other may have."""

from __future__ import annotations

import msgspec

from boxship.engine.container import Container
from boxship.engine.model import SPEC_KIND, STATUS_KIND, ContainerSpec, ContainerStatus, NameInUse
from boxship.store import NameTaken, Store, Transaction

_encode = msgspec.json.Encoder().encode


class ContainerRows:
    """Writes rows; each method is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def insert(self, container: Container) -> None:
        """Write a new container and claim its name. Raises NameInUse."""
        spec = container.spec

        def insert(tx: Transaction) -> None:
            tx.claim(SPEC_KIND, spec.name, spec.id)
            tx.put(SPEC_KIND, spec.id, _encode(spec))
            tx.put(STATUS_KIND, spec.id, _encode(container.status))

        try:
            # A --rm container promises nothing across a power cut; all others do.
            await self._store.write(insert, durable=not spec.host_config.auto_remove)
        except NameTaken as exc:
            raise NameInUse(spec.name, exc.holder_id) from exc

    async def save_status(self, container: Container) -> None:
        """Write the status as it is now; a power cut may take the last one back, and the container with it."""
        document = _encode(container.status)
        await self._store.write(lambda tx: tx.put(STATUS_KIND, container.id, document), durable=False)

    async def save_both(self, spec: ContainerSpec, status: ContainerStatus) -> None:
        """Write a changed specification together with what it means for the container that runs."""
        documents = _encode(spec), _encode(status)

        def save(tx: Transaction) -> None:
            tx.put(SPEC_KIND, spec.id, documents[0])
            tx.put(STATUS_KIND, spec.id, documents[1])

        await self._store.write(save)

    async def rename(self, spec: ContainerSpec, old: str) -> None:
        """Write a specification with another name, claim that and release ``old``. Raises NameInUse."""

        def change(tx: Transaction) -> None:
            tx.claim(SPEC_KIND, spec.name, spec.id)
            tx.release(SPEC_KIND, old)
            tx.put(SPEC_KIND, spec.id, _encode(spec))

        try:
            await self._store.write(change)
        except NameTaken as exc:
            raise NameInUse(spec.name, exc.holder_id) from exc

    async def delete(self, container: Container) -> None:
        """Remove the container's rows and free its name."""

        def delete(tx: Transaction) -> None:
            tx.release(SPEC_KIND, container.spec.name)
            tx.delete(SPEC_KIND, container.id)
            tx.delete(STATUS_KIND, container.id)

        await self._store.write(delete, durable=False)

    def load(self) -> list[tuple[ContainerSpec, ContainerStatus]]:
        """Return all containers that the store names; blocking."""
        with self._store.read() as tx:
            specs = tx.list(SPEC_KIND)
            statuses = dict(tx.list(STATUS_KIND))
        return [
            (
                msgspec.json.decode(document, type=ContainerSpec),
                msgspec.json.decode(statuses.get(id, b"{}"), type=ContainerStatus),
            )
            for id, document in specs
        ]
