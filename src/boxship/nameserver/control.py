"""What boxshipd says to the nameserver, besides what every resident knows (:mod:`boxship.shim.resident`).

============ ==================================== ===============================================
op           fields                               answer
============ ==================================== ===============================================
``sync``     ``resolvers``, ``endpoints``: lists  when all sandboxes are served; ``failed``: {sandbox id: reason}
``attach``   ``resolver``                         when the sandbox is served
``detach``   ``sandbox_id``                       at once
``publish``  ``endpoint``                         at once
``withdraw`` ``endpoint_id``                      at once
============ ==================================== ===============================================

Fields of a resolver and of an endpoint are those of ``boxship.networks.names``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.nameserver.service import Service
    from boxship.shim.resident import Answer


class Requests:
    """The work of a resident: a :class:`Service` that does what messages say."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def empty(self) -> bool:
        """Whether there is nobody to answer to."""
        return self._service.empty

    def status(self) -> dict[str, int]:
        """Return counts."""
        return self._service.status()

    def close(self) -> None:
        """Leave all sandboxes."""
        self._service.close()

    def carry_out(self, request: dict[str, Any], fds: list[int], answer: Answer) -> None:  # noqa: ARG002
        """Do what a request says; raises KeyError, TypeError or ValueError for a bad one."""
        service = self._service
        match request["op"]:
            case "sync":
                service.replace(
                    request["resolvers"], request["endpoints"], lambda failed: answer.send({"failed": failed})
                )
                return
            case "attach":
                service.attach(request["resolver"], lambda error: answer.send({}, error=error))
                return
            case "detach":
                service.detach(request["sandbox_id"])
            case "publish":
                service.publish(request["endpoint"])
            case "withdraw":
                service.withdraw(request["endpoint_id"])
            case unknown:
                raise ValueError(f"unknown request {unknown!r}")
        answer.send({})
