"""Who asks a registry: credentials from the environment, tokens from the server that the registry names."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass
from urllib.parse import urlencode

from .errors import FetchError
from .transport import Client

DOCKER_CONFIG = ".dockerconfigjson"
"""The key of Secrets of type kubernetes.io/dockerconfigjson. `envFrom` passes it on under this name: dots, also leading
ones, are valid in names of variables to every Kubernetes since 1.8 (only `.`, `..` and names that begin with `..` are
not); a shell would drop it, but none is between."""

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_MAX_TOKEN_BYTES = 2**20
_CHECK_HINT = (
    "check the Secret that spec.artifact.secretRef names (OCI_USERNAME and OCI_PASSWORD, or .dockerconfigjson)"
)


@dataclass(frozen=True)
class Credentials:
    """User and password, both empty for nobody."""

    user: str = ""
    password: str = ""

    @classmethod
    def from_environment(cls, host: str) -> Credentials:
        """Those for a registry.

        Raises:
            FetchError: the variables are not understood.

        """
        user, password = os.environ.get("OCI_USERNAME", ""), os.environ.get("OCI_PASSWORD", "")
        if user or password:
            return cls(user, password)
        try:
            auths = json.loads(os.environ.get(DOCKER_CONFIG) or "{}").get("auths", {})
            return _entry_for(host, auths)
        except (ValueError, AttributeError, TypeError) as error:
            message = f"{DOCKER_CONFIG} is no Docker configuration with auths: {_CHECK_HINT}"
            raise FetchError("InvalidSecret", message, permanent=True) from error

    @property
    def basic(self) -> str:
        """Header of basic authentication; empty for nobody."""
        if not self.user and not self.password:
            return ""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def _entry_for(host: str, auths: dict[str, dict[str, str]]) -> Credentials:
    for name, entry in auths.items():
        server = name.partition("://")[2] or name
        server = server.partition("/")[0]
        if server == host:
            user, password = entry.get("username", ""), entry.get("password", "")
            if "auth" in entry:
                user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            return Credentials(user, password)
    return Credentials()


class Token:
    """What the registry is shown with each request."""

    def __init__(self, client: Client, credentials: Credentials, scheme: str, shown: str) -> None:
        self._client = client
        self._credentials = credentials
        self._scheme = scheme
        self._shown = shown
        self.authorization = ""

    def renew(self, challenges: list[str], scope: str) -> None:
        """Do what the registry asks for.

        Raises:
            FetchError: there is nothing to show, or it has been refused.

        """
        basic = self._credentials.basic
        for challenge in challenges:
            kind = challenge.partition(" ")[0].lower()
            if kind == "bearer":
                self.authorization = self._bearer(dict(_PARAMETER.findall(challenge)), scope)
                return
            if kind == "basic" and basic and self.authorization != basic:
                self.authorization = basic
                return
        raise self.refused()

    def _bearer(self, parameters: dict[str, str], scope: str) -> str:
        realm = parameters.get("realm", "")
        # The password goes there.
        if not realm.startswith(("https://",) if self._scheme == "https" else ("https://", "http://")):
            message = f"the registry of {self._shown} wants the password sent to an address without TLS"
            raise FetchError("InsecureRedirect", message, permanent=True)
        query = {"scope": scope} | ({"service": parameters["service"]} if "service" in parameters else {})
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        try:
            answer = self._client.get(url, authorization=self._credentials.basic)
        except FetchError as error:
            raise self.refused() if error.reason == "AccessDenied" else error from error
        document = b""
        for piece in self._client.pieces(answer):
            document += piece
            if len(document) > _MAX_TOKEN_BYTES:
                break
        return f"Bearer {_token_in(document, self._shown)}"

    def refused(self) -> FetchError:
        """What to tell when the registry does not let us in."""
        who = "these credentials" if self._credentials.basic else "access without credentials"
        return FetchError(
            "AccessDenied", f"the registry refuses {who} for {self._shown}: {_CHECK_HINT}", permanent=True
        )


def _token_in(answer: bytes, shown: str) -> str:
    try:
        body = json.loads(answer)
        token = body.get("token") or body["access_token"]
    except (ValueError, KeyError, AttributeError) as error:
        message = f"the registry of {shown} names a token server that gives no token"
        raise FetchError("StoreUnreachable", message, permanent=False) from error
    return str(token)
