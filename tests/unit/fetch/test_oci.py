"""Artifacts and images of a real OCI registry."""

from __future__ import annotations

import base64
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request as Ask
from urllib.request import urlopen

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from modelswap.fetch.__main__ import Options, fetch
from modelswap.fetch.oci_auth import DOCKER_CONFIG

from .conftest import Request, Serve, contents
from .registry import INDEX, MANIFEST, Registry, basic, layer, new_registry, titled
from .test_unpack import member, tar

USER, PASSWORD = "reader", "a password of the registry"
HTPASSWD = "reader:$2b$04$abcdefghijklmnopqrstuu4EB.2eay59enRc/6hqGSufkiGI7KCmW\n"
MODEL = b"weights " * 40_000
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    made = new_registry(tmp_path_factory.mktemp("registry"))
    with made.stack:
        made.start()
        yield made


@pytest.fixture
def own_registry(tmp_path: Path) -> Iterator[Registry]:
    """One that the test starts with an authentication of its own."""
    made = new_registry(tmp_path)
    with made.stack:
        yield made


def gzipped(*members: Any) -> bytes:
    return tar(*members, mode="w:gz")


@pytest.mark.requirement("MM-8")
def test_the_files_of_an_artifact_are_fetched_and_its_digest_is_that_of_the_manifest(
    registry: Registry, tmp_path: Path
) -> None:
    files = {"model.bin": MODEL, "conf/settings.json": b"{}"}
    digest = registry.push("models/iris", "1.0.0", [(text, titled(name)) for name, text in files.items()])
    result = fetch(f"oci://{registry.host}/models/iris:1.0.0", tmp_path, digest)
    assert (result.message, result.digest) == ("", f"sha256:{digest}")
    assert contents(tmp_path) == files
    by_digest = fetch(f"oci://{registry.host}/models/iris@sha256:{digest}", tmp_path / "other", None)
    assert (by_digest.message, by_digest.digest) == ("", f"sha256:{digest}")


def test_a_folder_that_travels_packed_is_unpacked(registry: Registry, tmp_path: Path) -> None:
    folder = gzipped(member("iris/model.bin", MODEL), member("iris/settings.json", b"{}"))
    about = titled("iris", **{"io.deis.oras.content.unpack": "true"})
    registry.push("models/folder", "latest", [(folder, about)])
    assert fetch(f"oci://{registry.host}/models/folder", tmp_path, None).message == ""
    assert contents(tmp_path) == {"iris/model.bin": MODEL, "iris/settings.json": b"{}"}


def test_the_layers_of_an_image_replace_and_remove_what_is_below(registry: Registry, tmp_path: Path) -> None:
    lower = gzipped(member("models/a", b"old"), member("models/b", b"b"), member("models/tmp/x", b"x"))
    upper = gzipped(member("models/a", b"new"), member("models/.wh.b"), member("models/tmp/.wh..wh..opq"))
    registry.push("models/image", "1", [(lower, layer()), (upper, layer())])
    assert fetch(f"oci://{registry.host}/models/image:1", tmp_path, None).message == ""
    assert contents(tmp_path) == {"models/a": b"new"}


@pytest.mark.parametrize("pinned", ["index", "manifest"])
def test_of_an_index_the_one_for_this_machine_is_fetched(pinned: str, registry: Registry, tmp_path: Path) -> None:
    entries, digests = [], {}
    for architecture in ("s390x", MACHINE):
        text = architecture.encode()
        digests[architecture] = registry.push("models/many", architecture, [(text, titled("model.bin"))])
        entries.append(
            {
                "mediaType": MANIFEST,
                "digest": f"sha256:{digests[architecture]}",
                "size": 1,
                "platform": {"os": "linux", "architecture": architecture},
            }
        )
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    of_index = registry.put_manifest("models/many", "1", index)
    wanted = of_index if pinned == "index" else digests[MACHINE]
    result = fetch(f"oci://{registry.host}/models/many:1", tmp_path, wanted)
    assert result.message == ""
    assert contents(tmp_path) == {"model.bin": MACHINE.encode()}
    alone = {**index, "manifests": entries[:1]}
    registry.put_manifest("models/many", "2", alone)
    refused = fetch(f"oci://{registry.host}/models/many:2", tmp_path / "none", None)
    assert (refused.reason, refused.permanent) == ("NoPlatform", True)
    assert f"linux/{MACHINE}" in refused.message


@pytest.mark.requirement("MM-8")
def test_another_digest_than_the_spec_says_is_refused(registry: Registry, tmp_path: Path) -> None:
    digest = registry.push("models/sum", "1", [(MODEL, titled("model.bin"))])
    result = fetch(f"oci://{registry.host}/models/sum:1", tmp_path, "0" * 64)
    assert (result.reason, result.permanent) == ("ChecksumMismatch", True)
    assert digest in result.message
    assert contents(tmp_path) == {}


@pytest.mark.requirement("MM-8")
def test_a_blob_that_the_registry_has_damaged_is_not_used(registry: Registry, tmp_path: Path) -> None:
    text = b"to be damaged" * 100
    registry.push("models/damaged", "1", [(text, titled("model.bin"))])
    registry.blob_file(text).write_bytes(text.replace(b"damaged", b"DAMAGED"))
    result = fetch(f"oci://{registry.host}/models/damaged:1", tmp_path, None)
    assert result.reason == "DigestMismatch"
    assert contents(tmp_path) == {}


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize("name", ["../model.bin", "/etc/model.bin", "a/../../b"])
def test_a_title_that_leads_out_is_refused(name: str, registry: Registry, tmp_path: Path) -> None:
    registry.push("models/out", "1", [(b"x", titled(name))])
    result = fetch(f"oci://{registry.host}/models/out:1", tmp_path / "to", None)
    assert (result.reason, result.permanent) == ("UnsafePath", True)
    assert contents(tmp_path / "to") == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["to"]


def test_an_artifact_larger_than_allowed_is_not_begun(registry: Registry, tmp_path: Path) -> None:
    registry.push("models/large", "1", [(MODEL, titled("model.bin"))])
    uri = f"oci://{registry.host}/models/large:1"
    result = fetch(uri, tmp_path, None, Options(max_bytes=1000))
    assert (result.reason, result.permanent) == ("TooLarge", True)
    assert str(len(MODEL))[:2] in result.message
    assert "maxBytes" in result.message


@pytest.mark.parametrize("reference", ["missing:1", "models/iris:none", f"models/iris@sha256:{'0' * 64}"])
def test_what_is_not_there_is_told(reference: str, registry: Registry, tmp_path: Path) -> None:
    result = fetch(f"oci://{registry.host}/{reference}", tmp_path, None)
    assert (result.reason, result.permanent) == ("NotFound", True)
    assert reference in result.message


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"layers": []}, "NotFound"),
        ({"layers": [{"digest": "md5:1", "size": 1}]}, "InvalidManifest"),
        ({"layers": [{"mediaType": "x.tar+zstd", "digest": f"sha256:{'0' * 64}", "size": 1}]}, "UnsupportedLayer"),
        ([], "InvalidManifest"),
    ],
)
def test_a_manifest_without_a_model_is_told(manifest: Any, reason: str, serve: Serve, tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(200, json.dumps(manifest).encode(), Content_Type=MANIFEST))
    result = fetch(f"oci://127.0.0.1:{site.port}/models/odd:1", tmp_path, None)
    assert (result.reason, result.permanent) == (reason, True)


@pytest.mark.parametrize("uri", ["oci://h/Upper:1", "oci://h/a:b:c", "oci://user:secret@h/a:1", "oci://h/a@sha256:12"])
def test_a_reference_that_is_none_is_told(uri: str, tmp_path: Path) -> None:
    result = fetch(uri, tmp_path, None)
    assert (result.reason, result.permanent) == ("InvalidUri", True)
    assert "secret" not in result.message


def test_a_blob_that_breaks_off_is_read_on_from_there(registry: Registry, serve: Serve, tmp_path: Path) -> None:
    registry.push("models/broken", "1", [(MODEL, titled("model.bin"))])
    ranges = []

    def answer(request: Request) -> None:
        accept = {"Accept": request.headers.get("Accept") or "*/*"}
        with urlopen(Ask(f"http://{registry.host}{request.path}", headers=accept), timeout=10) as found:
            text, kind = found.read(), found.headers["Content-Type"]
        if "/blobs/" not in request.path:
            request.reply(200, text, Content_Type=kind)
            return
        asked = request.headers.get("Range")
        ranges.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        about = {"Content_Range": f"bytes {begin}-{len(text) - 1}/{len(text)}"} if asked else {}
        request.begin(206 if asked else 200, Content_Length=str(len(text) - begin), **about)
        request.wfile.write(text[begin : begin + len(text) // 3])
        request.break_off()

    site = serve(answer)
    result = fetch(f"oci://127.0.0.1:{site.port}/models/broken:1", tmp_path, None)
    assert result.message == ""
    assert contents(tmp_path) == {"model.bin": MODEL}
    third = len(MODEL) // 3
    assert ranges[:3] == [None, f"bytes={third}-", f"bytes={2 * third}-"]


def _docker_config(host: str) -> str:
    entry = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return json.dumps({"auths": {"other.example": {"auth": "eDp5"}, f"http://{host}/v2/": {"auth": entry}}})


@pytest.mark.parametrize("secret", ["user and password", "docker configuration"])
def test_a_registry_that_wants_a_password_gets_it(
    secret: str,
    own_registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    own_registry.start({"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}})
    own_registry.authorization = basic(USER, PASSWORD)
    own_registry.push("models/iris", "1", [(MODEL, titled("model.bin"))])
    uri = f"oci://{own_registry.host}/models/iris:1"
    nobody = fetch(uri, tmp_path / "nobody", None)
    assert (nobody.reason, nobody.permanent) == ("AccessDenied", True)
    assert "spec.artifact.secretRef" in nobody.message
    monkeypatch.setenv("OCI_USERNAME", USER)
    monkeypatch.setenv("OCI_PASSWORD", "wrong")
    assert fetch(uri, tmp_path / "wrong", None).reason == "AccessDenied"
    if secret == "docker configuration":  # noqa: S105 - a kind of Secret
        monkeypatch.delenv("OCI_USERNAME")
        monkeypatch.delenv("OCI_PASSWORD")
        monkeypatch.setenv(DOCKER_CONFIG, _docker_config(own_registry.host))
    else:
        monkeypatch.setenv("OCI_PASSWORD", PASSWORD)
    result = fetch(uri, tmp_path / "to", None)
    assert result.message == ""
    assert contents(tmp_path / "to") == {"model.bin": MODEL}
    out = capfd.readouterr()
    assert PASSWORD not in out.out + out.err


def test_a_docker_configuration_that_is_none_is_told(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DOCKER_CONFIG, "{")
    result = fetch(f"oci://{registry.host}/models/iris:1", tmp_path, None)
    assert (result.reason, result.permanent) == ("InvalidSecret", True)


class TokenServer:
    """Gives tokens that the registry itself checks, as large registries do: one for each request of a scope."""

    def __init__(self, lifetime: float) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.lifetime = lifetime
        self.asked: list[str] = []

    @property
    def key_set(self) -> str:
        numbers = self._key.public_key().public_numbers()
        coordinates = {name: _encoded(n.to_bytes(32, "big")) for name, n in (("x", numbers.x), ("y", numbers.y))}
        key = {"kty": "EC", "crv": "P-256", "kid": "test", "use": "sig", "alg": "ES256", **coordinates}
        return json.dumps({"keys": [key]})

    def token(self, repository: str, actions: tuple[str, ...]) -> str:
        now = int(time.time())
        claims = {
            "iss": "test", "aud": "registry", "sub": USER, "jti": str(now),
            "iat": now, "nbf": now - 5, "exp": int(now + self.lifetime),
            "access": [{"type": "repository", "name": repository, "actions": actions}],
        }  # fmt: skip
        header = {"typ": "JWT", "alg": "ES256", "kid": "test"}
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def __call__(self, request: Request) -> None:
        query = parse_qs(urlsplit(request.path).query)
        self.asked.append(query["scope"][0])
        if request.headers.get("Authorization") != basic(USER, PASSWORD):
            request.reply(401, b"", WWW_Authenticate='Basic realm="tokens"')
            return
        assert query["service"] == ["registry"]
        _, repository, actions = query["scope"][0].split(":")
        request.reply(200, json.dumps({"token": self.token(repository, tuple(actions.split(",")))}).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def test_a_registry_with_a_token_server_gets_tokens_and_new_ones_when_they_run_out(
    own_registry: Registry, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = TokenServer(lifetime=3600)
    (tmp_path / "keys").write_text(tokens.key_set)
    realm = serve(tokens).url("/token")
    auth = {"realm": realm, "service": "registry", "issuer": "test", "jwks": str(tmp_path / "keys")}
    own_registry.start({"token": auth})
    own_registry.authorization = f"Bearer {tokens.token('models/iris', ('pull', 'push'))}"
    digest = own_registry.push("models/iris", "1", [(MODEL, titled("model.bin"))])
    uri = f"oci://{own_registry.host}/models/iris:1"
    assert fetch(uri, tmp_path / "nobody", None).reason == "AccessDenied"
    monkeypatch.setenv("OCI_USERNAME", USER)
    monkeypatch.setenv("OCI_PASSWORD", PASSWORD)
    tokens.asked.clear()
    result = fetch(uri, tmp_path / "to", digest)
    assert result.message == ""
    assert tokens.asked == ["repository:models/iris:pull"]
    # Over already when it is given: each request of the registry needs another, and none is let in.
    tokens.lifetime = -120
    assert fetch(uri, tmp_path / "late", digest).reason == "AccessDenied"


def test_the_registry_refuses_what_the_test_pushes_without_the_password(own_registry: Registry, tmp_path: Path) -> None:
    """The tests above rest on it."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    own_registry.start({"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}})
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"http://{own_registry.host}/v2/", timeout=10)


def test_a_layer_used_twice_is_in_both_places(registry: Registry, tmp_path: Path) -> None:
    digest = registry.push("models/twice", "1", [(MODEL, titled("a")), (MODEL, titled("b"))])
    result = fetch(f"oci://{registry.host}/models/twice:1", tmp_path, digest)
    assert contents(tmp_path) == {"a": MODEL, "b": MODEL}
    assert result.bytes < 2 * len(MODEL), "fetched once"
