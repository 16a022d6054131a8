from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from modelswap.fetch.errors import FetchError
from modelswap.fetch.manifest import check_path, digest_of_folder

BY_HAND = r"find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"


def test_a_folders_digest_is_what_a_person_gets_with_sha256sum(tmp_path: Path) -> None:
    for name, content in {"model.joblib": "a", "Z/ö.txt": "b", "a b.txt": "c"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    files = {
        str(path.relative_to(tmp_path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    by_hand = subprocess.run(["bash", "-c", BY_HAND], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert digest_of_folder(files) == by_hand.split()[0]


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a\0b"])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(FetchError, match="leads out"):
        check_path(path)
