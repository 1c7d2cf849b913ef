"""A container's rows in the store: specification, status, and the name that no other may have."""

from __future__ import annotations

import msgspec

from boxship.engine.container import Container
from boxship.engine.model import SPEC_KIND, STATUS_KIND, ContainerSpec, ContainerStatus, NameInUse
from boxship.store import NameTaken, Store, Transaction, quarantine

_encode = msgspec.json.Encoder().encode


def decode_spec(id: str, document: bytes) -> ContainerSpec:
    """Return the specification in a row. Raises msgspec.ValidationError."""
    spec = msgspec.json.decode(document, type=ContainerSpec)
    if spec.id != id:
        raise msgspec.ValidationError(f"it is the specification of {spec.id}")
    return spec


def decode_status(id: str, document: bytes) -> ContainerStatus:  # noqa: ARG001
    """Return the status in a row. Raises msgspec.ValidationError."""
    return msgspec.json.decode(document, type=ContainerStatus)


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
            # A --rm container and that of a build promise nothing across a power cut; all others do.
            await self._store.write(insert, durable=not (spec.host_config.auto_remove or spec.builds))
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
                decode_spec(id, document),
                decode_status(id, statuses.get(id, b"{}")),
            )
            for id, document in specs
        ]

    def aside(self) -> dict[str, ContainerStatus]:
        """Return id and status of the containers whose specification is in quarantine; blocking."""
        with self._store.read() as tx:
            statuses = {row.id: tx.get(STATUS_KIND, row.id) for row in quarantine.quarantined(tx, SPEC_KIND)}
        return {id: decode_status(id, document or b"{}") for id, document in statuses.items()}
