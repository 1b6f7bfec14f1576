"""Asking the server that was started, from the same machine: whether it listens, and one real request."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that mean every one of this machine, and where it reaches itself."""


class Asked:
    """A server's address, and the key that it wants."""

    def __init__(self, host: str, port: int, key: str | None = None, tls: bool = False) -> None:
        self.host = WILDCARDS.get(host, host)
        self.port = port
        self.key = key
        self.tls = tls

    @property
    def base(self) -> str:
        """Base URL of the OpenAI-style interface."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/v1"

    def ask(self, path: str, data: Any = None, timeout: float = 5.0) -> tuple[int, str]:
        """Status and text of the answer to a GET, or to a POST where there is data.

        Raises:
            OSError, http.client.HTTPException: nobody listens, or nobody answers within `timeout` seconds.
        """
        connection = self._connection(timeout)
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            body = None if data is None else json.dumps(data)
            connection.request("GET" if data is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if not self.tls:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        context = ssl._create_unverified_context()  # it is the server that this process started
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)

    def listens(self) -> bool:
        """Whether it says that it is up."""
        try:
            return self.ask("/health")[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
