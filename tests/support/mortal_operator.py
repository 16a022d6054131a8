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

    def meet(self, when: str, what: str) -> None:
        """Before or after a write."""
        number, at, moment = self._file.read_text().split()
        if number != self._round:
            self._round, self._count = number, 0
        if when == "before":
            self._count += 1
        with self._log.open("a") as log:
            log.write(f"{number} {self._count} {when} {what}\n")
        if self._count == int(at) and when == moment:
            os.kill(os.getpid(), signal.SIGKILL)


def make_mortal(death: Death) -> None:
    """Put death before and after every write of this process: to the API server, and to an agent."""
    call, direct = KubeApi._call, AgentClient.direct

    async def mortal_call(
        self: KubeApi, verb: str, path: str, body: Mapping[str, Any] | None = None, **options: Any
    ) -> Manifest:
        what = f"{verb} {path}"
        if verb != "GET":
            death.meet("before", what)
        result = await call(self, verb, path, body, **options)
        if verb != "GET":
            death.meet("after", what)
        return result

    async def mortal_direct(self: AgentClient, agent: Agent, request: TrafficRequest) -> AgentReport:
        what = f"{agent.model_version} {request.model_dump_json(exclude_defaults=True)}"
        death.meet("before", what)
        result = await direct(self, agent, request)
        death.meet("after", what)
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
