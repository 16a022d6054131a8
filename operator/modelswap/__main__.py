"""The operator's process: take the lead, work, end when the lead is lost."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from modelswap import __version__, logs, ops
from modelswap.api.crdgen import KINDS, custom_resource_definition
from modelswap.check import check
from modelswap.handlers.operator import Operator
from modelswap.kube.api import KubeApi, load_config
from modelswap.kube.api import client as kube_client
from modelswap.kube.lease import Lead, lead
from modelswap.kube.retirement import retire
from modelswap.settings import Settings

logger = logging.getLogger(__name__)


async def run(settings: Settings) -> int:
    """Run until told to stop, or until the lead is lost; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await load_config()
    client = kube_client()
    held = Lead(settings.lease_seconds)
    operator = Operator(settings, client, before_write=held.check)
    # A replica that stands by is ready too: it serves nobody, and an update must not wait for it to lead.
    runner = await ops.serve(settings.ops_port, live=operator.problem, ready=lambda: "")
    logger.info("modelswap %s, waiting for the lead as %s", __version__, settings.pod_name)
    try:
        leading = asyncio.create_task(
            lead(
                client,
                held,
                namespace=settings.namespace,
                identity=settings.pod_name,
                work=lambda: operator.run(stop),
            )
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if leading.done():
            # kopf has signal handlers of its own while it runs: then its end is the signal.
            return 0 if leading.result() else 1
        leading.cancel()
        return 0
    finally:
        await runner.cleanup()
        await client.close()  # type: ignore[no-untyped-call]


async def uninstall(settings: Settings) -> int:
    """End the operator for good: what a chart does before it is uninstalled; the exit code."""
    await load_config()
    client = kube_client()
    try:
        await retire(KubeApi(client), settings.namespace, settings.deployment, settings.namespaces)
    finally:
        await client.close()  # type: ignore[no-untyped-call]
    return 0


async def upgrade_crds() -> int:
    """Apply the CRDs of this release: what a chart does before an upgrade; the exit code."""
    await load_config()
    client = kube_client()
    try:
        for kind in KINDS:
            written = await KubeApi(client).apply_crd(custom_resource_definition(kind))
            print(f"{written['metadata']['name']} is that of modelswap {__version__}")
    finally:
        await client.close()  # type: ignore[no-untyped-call]
    return 0


def main() -> None:
    """Run the operator; `retire` ends it for good, `crds` applies the CRDs, `check URL` looks whether one works."""
    match sys.argv[1:]:
        case ["check", url]:
            sys.exit(asyncio.run(check(url)))
        case ["crds"]:
            sys.exit(asyncio.run(upgrade_crds()))
        case [] | ["run"]:
            command = run
        case ["retire"]:
            command = uninstall
        case _:
            sys.exit("usage: python3 -m modelswap [run|retire|crds|check URL]")
    settings = Settings()
    logs.configure(settings.log_format, debug=settings.debug)
    sys.exit(asyncio.run(command(settings)))


if __name__ == "__main__":
    main()
