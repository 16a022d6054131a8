"""Clouds' object stores: where they are, and how one proves who one is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from .addresses import check_endpoint


@dataclass(frozen=True)
class Provider:
    """What the environment may say of a cloud's store."""

    endpoint: str
    """Where it is if nothing else is said."""
    endpoint_variables: tuple[str, ...]
    credentials: tuple[str, ...]
    """Without any of these, requests are not signed: the library would ask the node's metadata service who it is."""
    refused: tuple[str, ...]
    """Further addresses and files that the library would get credentials from."""

    def configure(self, uri: str) -> Any:
        """The library's configuration, whichever of its types: it is kept to the store, and to what the Secret holds.

        Raises:
            FetchError: the store is where nothing may be fetched from.

        """
        for name in self.refused:
            os.environ.pop(name, None)
        given = next((os.environ[name] for name in self.endpoint_variables if os.environ.get(name)), "")
        check_endpoint(given or self.endpoint, uri)
        signed = any(os.environ.get(name) for name in self.credentials)
        return {} if signed else {"skip_signature": True}


PROVIDERS = {
    "s3": Provider(
        "https://s3.amazonaws.com",
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        ("AWS_ACCESS_KEY_ID",),
        (
            "AWS_METADATA_ENDPOINT",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_STS_ENDPOINT",
            "AWS_ENDPOINT_URL_STS",
        ),
    ),
    "gs": Provider(
        "https://storage.googleapis.com",
        ("GOOGLE_BASE_URL",),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_BEARER_TOKEN"),
        ("GOOGLE_APPLICATION_CREDENTIALS",),
    ),
    "az": Provider(
        "https://blob.core.windows.net",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURITE_BLOB_STORAGE_URL"),
        (
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_MASTER_KEY",
            "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_STORAGE_TOKEN",
            "AZURE_STORAGE_CLIENT_SECRET",
            "AZURE_CLIENT_SECRET",
            "AZURE_STORAGE_USE_EMULATOR",
        ),
        ("AZURE_MSI_ENDPOINT", "AZURE_IDENTITY_ENDPOINT", "IDENTITY_ENDPOINT", "MSI_ENDPOINT",
         "AZURE_FEDERATED_TOKEN_FILE", "AZURE_STORAGE_AUTHORITY_HOST", "AZURE_AUTHORITY_HOST"),
    ),
}  # fmt: skip
