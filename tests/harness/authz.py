"""A sample authorization plugin."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from harness.plugins import Body, Plugin


class AuthorizationPlugin(Plugin):
    """Allows no privileged container if ``forbids``, and no answer that contains a word of ``secret``."""

    interface = "authz"

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(directory, name)
        self.forbids = False
        self.secret: list[bytes] = []

    def on_auth_z_req(self, body: Body) -> Body:
        content = json.loads(base64.b64decode(body.get("RequestBody") or "") or "{}")
        if self.forbids and content.get("HostConfig", {}).get("Privileged"):
            return {"Allow": False, "Msg": "nobody is privileged here"}
        return {"Allow": True}

    def on_auth_z_res(self, body: Body) -> Body:
        content = base64.b64decode(body.get("ResponseBody") or "")
        return {"Allow": not any(word in content for word in self.secret), "Msg": "that is a secret"}

    def asked(self, method: str, target: str) -> list[Body]:
        """Return the documents of this call's requests about a target, bodies decoded."""
        found = [body for name, body in self.calls if name.endswith(method) and target in body["RequestUri"]]
        return [
            {
                **body,
                **{
                    key: json.loads(base64.b64decode(body[key]))
                    for key in ("RequestBody", "ResponseBody")
                    if body.get(key)
                },
            }
            for body in found
        ]
