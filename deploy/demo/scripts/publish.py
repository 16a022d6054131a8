"""Publishes trained versions to the store: `publish.py FOLDER BUCKET RESULT`.

Runs in the agent's image. RESULT gets what was published, with checksums, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import obstore
from modelswap.fetch.manifest import digest_of_folder
from obstore.store import from_url


def main() -> None:
    """Put every version in the bucket."""
    folder, bucket, result = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    published = json.loads((folder / "answers.json").read_text())
    store = from_url(f"s3://{bucket}", client_options={"allow_http": True})
    for version, facts in published.items():
        digests = {}
        for file in sorted((folder / version).iterdir()):
            content = file.read_bytes()
            digests[file.name] = hashlib.sha256(content).hexdigest()
            obstore.put(store, f"iris/{version}/{file.name}", content)
        facts["sha256"] = digest_of_folder(digests)
    result.write_text(json.dumps(published))
    print(published)


if __name__ == "__main__":
    main()
