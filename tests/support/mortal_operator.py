"""Operators that kill themselves at a write: `python -m tests.support.mortal_operator FILE`.

Everything is loaded once; each line on standard input then forks one operator, and its pid is printed. FILE says at
which of its next writes an operator dies, and whether before or after it: `ROUND NUMBER before|after`. With a new ROUND
the operator begins to count anew. What it writes is added to FILE.log.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelswap.__main__ import main
from modelswap.api.agent import AgentReport, TrafficRequest
from modelswap.engine.agents import Agent, AgentClient
from modelswap.kube.api import KubeApi, Manifest


class Death:
    """Comes at the write that the file names."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._log = file.with_suffix(".log")
        self._round = ""
        self._count = 0

    def before(self, what: str) -> int:
        """Of a write; which one it is."""
        number, at, moment = self._told()
        if number != self._round:
            self._round, self._count = number, 0
        self._count += 1
        with self._log.open("a") as log:
            log.write(f"{number} {self._count} {what}\n")
        if moment == "before" and self._count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._count

    def after(self, write: int) -> None:
        """Of a write that has succeeded."""
        number, at, moment = self._told()
        if moment == "after" and number == self._round and write == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _told(self) -> tuple[str, int, str]:
        number, at, moment = self._file.read_text().split()
        return number, int(at), moment


def make_mortal(death: Death) -> None:
    """Put death before and after every write of this process: to the API server, and to an agent."""
    call, direct = KubeApi._call, AgentClient.direct

    async def mortal_call(
        self: KubeApi, verb: str, path: str, body: Mapping[str, Any] | None = None, **options: Any
    ) -> Manifest:
        if verb == "GET":
            return await call(self, verb, path, body, **options)
        write = death.before(f"{verb} {path}")
        result = await call(self, verb, path, body, **options)
        death.after(write)
        return result

    async def mortal_direct(self: AgentClient, agent: Agent, request: TrafficRequest) -> AgentReport:
        write = death.before(f"{agent.model_version} {request.model_dump_json(exclude_defaults=True)}")
        result = await direct(self, agent, request)
        death.after(write)
        return result

    KubeApi._call = mortal_call  # type: ignore[method-assign]
    AgentClient.direct = mortal_direct  # type: ignore[method-assign]


def serve(file: Path) -> None:
    """Fork an operator for every line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            make_mortal(Death(file))
            sys.argv = ["modelswap"]
            main()
        print(pid, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
