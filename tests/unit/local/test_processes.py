from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from localcluster import processes
from localcluster.commands import TAIL_BYTES, run, tail
from localcluster.errors import LocalClusterError
from localcluster.locks import exclusive
from localcluster.processes import PidFile, Process


def test_a_pid_of_an_earlier_boot_is_not_taken_for_ours(tmp_path: Path) -> None:
    mine = Process.of(os.getpid())
    assert mine is not None
    ticks = mine.started.rpartition("/")[2]
    file = PidFile(tmp_path / "part.pid")
    file.write(Process(mine.pid, f"another-boot/{ticks}"))
    assert file.read() is None


@pytest.mark.parametrize("text", ["", "12", "x y", "1 2 3", "999999999 1"])
def test_a_broken_pid_file_is_no_process(tmp_path: Path, text: str) -> None:
    file = PidFile(tmp_path / "part.pid")
    file.path.write_text(text)
    assert file.read() is None
    processes.stop(file)
    assert not file.path.exists()


def test_a_process_whose_pid_file_is_lost_is_found_by_its_command(tmp_path: Path) -> None:
    script = "import sys, time; print('up', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", script, f"--state={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        name = Path(f"/proc/{child.pid}/cmdline").read_text().split("\0")[0]
        try:
            found = processes.find([f"/another/folder/{Path(name).name}", *command[1:]])
            assert found is not None
            assert found.pid == child.pid
            assert processes.find([*command[:-1], "--state=/elsewhere"]) is None
        finally:
            child.kill()


def test_a_part_whose_command_line_has_changed_is_told_from_one_that_stays() -> None:
    script = "import time; print('up', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", script, "--port=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        process = Process.of(child.pid)
        assert process is not None
        program = Path(f"/proc/{child.pid}/cmdline").read_text().split("\0")[0]
        try:
            assert processes.runs(process, [f"/another/folder/{Path(program).name}", *command[1:]])
            assert not processes.runs(process, [program, *command[1:-1], "--port=2"])
            assert not processes.runs(process, [program, *command[1:], "--more"])
        finally:
            child.kill()
    assert not processes.runs(process, command)


def test_a_part_that_does_not_listen_is_ended_by_force(tmp_path: Path) -> None:
    file, log = PidFile(tmp_path / "part.pid"), tmp_path / "part.log"
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    processes.start([sys.executable, "-c", script], env=dict(os.environ), log=log, pid_file=file)
    assert processes.wait_for(lambda: "deaf" in log.read_text(), 10)
    process = file.read()
    assert process is not None
    processes.stop(file, grace=0.2)
    assert not process.alive


def test_a_log_that_has_grown_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 10)
    file, log = PidFile(tmp_path / "part.pid"), tmp_path / "part.log"
    log.write_text("more than ten bytes")
    processes.start(["sleep", "60"], env=dict(os.environ), log=log, pid_file=file)
    processes.stop(file)
    assert log.read_text() == ""
    assert (tmp_path / "part.log.1").read_text() == "more than ten bytes"


def test_the_end_of_a_long_log_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x" * 2 * TAIL_BYTES + "\none\ntwo\nthree\n")
    assert tail(log, 2) == "    two\n    three"
    assert tail(tmp_path / "none") == ""


def test_a_failing_program_is_named_with_its_code_log_and_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(LocalClusterError, match="ended with code 3") as caught:
        run(["sh", "-c", "echo the reason; exit 3"], log=log)
    assert str(log) in str(caught.value)
    assert "the reason" in str(caught.value)
    with pytest.raises(LocalClusterError, match="not installed"):
        run(["no-such-program"])
    with pytest.raises(LocalClusterError, match="did not end within"):
        run(["sleep", "60"], timeout=0.1)


def _hold(path: Path, held: Event, release: Event) -> None:
    with exclusive(path, 5):
        held.set()
        release.wait(30)


def test_a_second_command_waits_for_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "lock", held, release))
    holder.start()
    try:
        assert held.wait(30)
        with pytest.raises(LocalClusterError, match="another localcluster command"), exclusive(tmp_path / "lock", 0.2):
            pytest.fail("two held the lock")
        assert "waiting" in capsys.readouterr().err
        holder.kill()  # a holder that is killed holds nothing
        with exclusive(tmp_path / "lock", 10):
            pass
    finally:
        holder.kill()
        holder.join(10)
        holder.close()
