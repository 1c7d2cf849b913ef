"""What can go wrong between the command line and an engine."""


class ClientError(Exception):
    """Base of what the client raises; the text is for the person."""


class HostError(ClientError):
    """The address of the engine, or the context that should give it, cannot be used."""


class UnreachableError(ClientError):
    """No engine answers at the address."""

    def __init__(self, host: str) -> None:
        super().__init__(f"Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")
        self.host = host


class ApiError(ClientError):
    """The engine answered with an error: HTTP ``status`` and its ``message``; ``excerpt`` shows the place in a Dockerfile."""

    def __init__(self, status: int, message: str, excerpt: str = "") -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.status = status
        self.message = message
        self.excerpt = excerpt


class NotFoundError(ApiError):
    """The engine knows no such object (404)."""


class TooOldError(ClientError):
    """The engine's API version lacks what was asked for."""

    def __init__(self, feature: str, needs: str, has: str) -> None:
        super().__init__(f'"{feature}" requires API version {needs}, but the Docker daemon API version is {has}')
