from __future__ import annotations

from pathlib import Path

import pytest
from localcluster import images
from localcluster.errors import LocalClusterError
from localcluster.images import Image
from localcluster.layout import Layout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    dockerfile = tmp_path / "deploy" / "images" / "thing" / "Dockerfile"
    dockerfile.parent.mkdir(parents=True)
    dockerfile.write_text("FROM scratch\nCOPY --from=other x /x\nCOPY --chown=1:1 one folder /app/\n")
    (tmp_path / "one").write_text("1")
    (tmp_path / "folder" / "__pycache__").mkdir(parents=True)
    (tmp_path / "folder" / "two").write_text("2")
    monkeypatch.setattr(images, "PROJECT", tmp_path)
    monkeypatch.setattr(images, "DOCKERFILES", dockerfile.parents[1])
    return tmp_path


def test_an_image_changes_its_name_with_what_is_in_it(project: Path) -> None:
    before = Image.of("thing")
    assert before.reference == f"localhost/modelswap-thing:{before.key}"
    (project / "elsewhere").write_text("not copied")
    (project / "folder" / "__pycache__" / "two.pyc").write_text("not source")
    assert Image.of("thing") == before
    (project / "folder" / "two").write_text("two")
    changed = Image.of("thing")
    assert changed != before
    (project / "folder" / "two").rename(project / "folder" / "three")
    assert Image.of("thing") not in (before, changed)


def test_an_unknown_image_is_refused_with_those_that_there_are(project: Path) -> None:
    with pytest.raises(LocalClusterError, match="there are: thing"):
        Image.of("thong")


def test_a_copied_file_that_is_missing_is_named(project: Path) -> None:
    (project / "one").unlink()
    with pytest.raises(LocalClusterError, match="copies one"):
        Image.of("thing")


@pytest.mark.parametrize("load", ["nonsense", "push", "push:", "k3d"])
def test_a_wrong_loader_is_refused_before_anything_is_built(layout: Layout, load: str) -> None:
    with pytest.raises(LocalClusterError, match="MODELSWAP_IMAGE_LOAD"):
        images.ensure(layout, ["operator"], load=load)
    assert not layout.cache.exists()


def test_pip_settings_of_the_machine_reach_a_build(tmp_path: Path) -> None:
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://user:word@index.example/%7Esimple\ntimeout = 5\nquiet = 1\n"
    )
    authority = tmp_path / "authority.pem"
    authority.touch()
    environment = {"HOME": str(tmp_path), "PIP_TIMEOUT": "60", "PIP_CERT": str(authority), "PIP_NO_INPUT": "1"}
    settings = images.pip_settings(environment)
    assert settings["index-url"] == "https://user:word@index.example/%7Esimple"
    assert settings["timeout"] == "60"
    assert not {"quiet", "no-input"} & set(settings)
    file = tmp_path / "cache" / "pip.conf"
    options = images.machine_settings(file, environment)
    assert f"--volume={authority}:{authority}:ro" in options
    assert f"--volume={file}:/etc/pip.conf:ro" in options
    assert file.stat().st_mode & 0o077 == 0
