"""One leader at a time, by a Lease."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import aiohttp
from kubernetes.aio.client import ApiClient, ApiException, V1Lease, V1LeaseSpec, V1ObjectMeta
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from modelswap import metrics
from modelswap.errors import LeadLostError

LEASE_NAME = "modelswap-operator"
CALL_SECONDS = 2.0
UNREACHABLE = (aiohttp.ClientError, TimeoutError)

logger = logging.getLogger(__name__)


class Lead:
    """Whether this process may write. It may not any more a while before another one may take over."""

    def __init__(self, lease_seconds: int) -> None:
        self.lease_seconds = lease_seconds
        self._held_until = 0.0

    @property
    def renew_seconds(self) -> float:
        """Without a renewal for so long the lead is given up.

        The rest of the lease is for calls under way. Of those that take longer, a status names the resourceVersion that
        it is about; what else comes late is put right by the next look.
        """
        return self.lease_seconds * 2 / 3

    def renewed(self, asked_at: float) -> None:
        """The Lease was written, by a call begun at this time."""
        self._held_until = asked_at + self.renew_seconds

    def check(self) -> None:
        """Before every write.

        Raises:
            LeadLostError: the Lease has not been renewed in time, as when this process was stopped for a while.

        """
        if now() >= self._held_until:
            raise LeadLostError("the lead may be another's by now: nothing is written any more")


def now() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Lock(LeaseLock):
    """The library's lock, which knows no timeouts, no API server that is away, and counts no transitions."""

    def __init__(self, namespace: str, identity: str, client: ApiClient, lead: Lead) -> None:
        super().__init__(LEASE_NAME, namespace, identity, client)
        self._lead = lead

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        try:
            lease = await self.api_instance.read_namespaced_lease(name, namespace, _request_timeout=CALL_SECONDS)
        except ApiException as error:
            return False, error
        except UNREACHABLE as error:
            return False, ApiException(status=0, reason=repr(error))
        self.lease_reference = lease
        return True, self.election_record(lease)

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        return await self._write(
            lambda: self.api_instance.create_namespaced_lease(namespace, lease, _request_timeout=CALL_SECONDS)
        )

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        lease = self.lease_reference
        assert lease is not None
        lease.spec = self.update_lease(updated_record, lease.spec)
        return await self._write(
            lambda: self.api_instance.replace_namespaced_lease(name, namespace, lease, _request_timeout=CALL_SECONDS)
        )

    def update_lease(
        self, leader_election_record: LeaderElectionRecord, current_spec: V1LeaseSpec | None = None
    ) -> V1LeaseSpec:
        moved = current_spec is not None and current_spec.holder_identity != self.identity
        spec: V1LeaseSpec = super().update_lease(leader_election_record, current_spec)
        if moved:
            spec.lease_transitions = (spec.lease_transitions or 0) + 1
        return spec

    async def _write(self, call: Callable[[], Awaitable[V1Lease]]) -> bool:
        asked_at = now()
        try:
            await call()
        except (ApiException, *UNREACHABLE) as error:
            reason = error.reason if isinstance(error, ApiException) else repr(error)
            logger.warning("the Lease %s could not be written: %s", self.name, reason)
            return False
        self._lead.renewed(asked_at)
        return True


async def lead(
    client: ApiClient, held: Lead, *, namespace: str, identity: str, work: Callable[[], Awaitable[None]]
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

    lock = _Lock(namespace, identity, client, held)
    config = Config(
        lock,
        lease_duration=held.lease_seconds,
        renew_deadline=held.renew_seconds,
        retry_period=max(held.lease_seconds / 7.5, 1.1),
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
        await lock.api_instance.replace_namespaced_lease(
            lock.name, lock.namespace, lease, _request_timeout=CALL_SECONDS
        )
