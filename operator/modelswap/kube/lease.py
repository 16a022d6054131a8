"""One leader at a time, by a Lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kubernetes.aio.client import ApiClient, ApiException, V1Lease, V1ObjectMeta
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from modelswap import metrics

LEASE_NAME = "modelswap-operator"

logger = logging.getLogger(__name__)


class _Lock(LeaseLock):
    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        # The library's own passes `pretty=True`, which its own validation refuses (kubernetes 37.0.2).
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            await self.api_instance.create_namespaced_lease(namespace, lease)
        except ApiException as error:
            logger.warning("the Lease %s could not be created: %s", name, error.reason)
            return False
        return True


async def lead(
    client: ApiClient, *, namespace: str, identity: str, lease_seconds: int, work: Callable[[], Awaitable[None]]
) -> bool:
    """Wait until this replica leads, then do `work`; whether the work ended by itself, and the lead was not lost.

    The caller ends the process then: what a former leader still has under way must not be written. An error of the work
    is raised here.
    """
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def started() -> None:
        metrics.LEADER.set(1)
        try:
            await work()
        except Exception as error:
            finished.set_exception(error)
        else:
            finished.set_result(None)

    async def stopped() -> None:
        metrics.LEADER.set(0)
        logger.error("the lead is lost")

    lock = _Lock(LEASE_NAME, namespace, identity, client)
    config = Config(
        lock,
        lease_duration=lease_seconds,
        renew_deadline=lease_seconds * 2 / 3,
        retry_period=max(lease_seconds / 7.5, 1.1),
        onstarted_leading=started,
        onstopped_leading=stopped,
    )
    election = asyncio.create_task(LeaderElection(config).run())
    await asyncio.wait({election, finished}, return_when=asyncio.FIRST_COMPLETED)
    if finished.done():
        election.cancel()
        await asyncio.wait({election})
        await _release(lock)
        finished.result()
        return True
    election.result()
    return False


async def _release(lock: LeaseLock) -> None:
    """Give the lead up at once, so that a successor need not wait for the Lease to run out."""
    found, _ = await lock.get(lock.name, lock.namespace)
    lease = lock.lease_reference
    if found and lease and lease.spec and lease.spec.holder_identity == lock.identity:
        lease.spec.holder_identity = None
        await lock.api_instance.replace_namespaced_lease(lock.name, lock.namespace, lease)
