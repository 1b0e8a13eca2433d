"""One container of a pod: starts its command, probes it, starts it again when it ends, stops it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import pathlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from node import launcher, prober
from node.backoff import Backoff
from node.errors import LaunchError
from node.launcher import Launch, Output
from node.network import Inside
from node.prober import Probes
from node.probes import Action, Exec, Probe
from node.status import ContainerState, Phase

_START_FAILED = 128


def now() -> str:
    """The time as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What a container is: its command and how to treat it. ``restart`` is Always, OnFailure or Never."""

    launch: Launch
    probes: Probes
    folder: pathlib.Path
    """Where its log is, and its launch spec while it starts."""
    post_start: Action | None = None
    pre_stop: Action | None = None
    restart: str = "Always"
    grace: float = 30.0
    """Seconds between SIGTERM and SIGKILL when a probe wants the command ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a container needs of its pod: the node's network to be asked from, and whom to tell of changes."""

    inside: Inside
    address: str
    changed: Callable[[], None]
    backoff: Backoff


class Container:
    """A container and its state. ``run`` lasts as long as the container may."""

    def __init__(self, state: ContainerState, blueprint: Blueprint, surroundings: Surroundings) -> None:
        """Nothing starts before ``run``."""
        self.state = state
        self._blueprint = blueprint
        self._around = surroundings
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._limit: asyncio.Timeout | None = None
        self.up = asyncio.Event()
        """Set once the command has started, its postStart hook is through and its startup probe has succeeded."""

    @property
    def log(self) -> pathlib.Path:
        """The file with the output of all runs."""
        return self._blueprint.folder / f"{self.state.name}.log"

    @property
    def pid(self) -> int:
        """The command's process; 0 when it does not run."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def run(self) -> int:
        """Run the command as its restart policy says; its last exit code."""
        failures, code = 0, 0
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            begun = loop.time()
            code = await self._once()
            if self._stopping.is_set() or not self._again(code):
                break
            failures = self._around.backoff.failures(failures, loop.time() - begun)
            await self._pause(self._around.backoff.delay(failures))
        return code

    def _again(self, code: int) -> bool:
        """Whether the restart policy wants another run."""
        policy = self._blueprint.restart
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    async def _pause(self, delay: float) -> None:
        """Wait before the next run, at most until the container is stopped."""
        if delay:
            message = f"{self.state.message or 'ended'}; next start in {delay:.0f} s"
            self._tell(phase=Phase.WAITING, reason="CrashLoopBackOff", message=message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
        self.state.restarts += 1

    def _tell(self, *, phase: Phase, reason: str = "", message: str = "", code: int = 0) -> None:
        """Take on a new state that is not ready."""
        state = self.state
        state.phase, state.reason, state.message, state.exit_code = phase, reason, message, code
        state.started = state.ready = False
        state.since = now()
        self._around.changed()

    @contextlib.contextmanager
    def _output(self) -> Iterator[Output]:
        """The log, open for a command to append to."""
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            yield Output(out=descriptor, err=descriptor)
        finally:
            os.close(descriptor)

    async def _once(self) -> int:
        """One run of the command; its exit code, 128 plus the signal's number if a signal ended it."""
        try:
            with self._output() as output:
                process = await launcher.start(self._blueprint.launch, self._blueprint.folder, output)
        except LaunchError as error:
            with self.log.open("a") as log:
                log.write(f"meshnode: {error}\n")
            self._tell(phase=Phase.WAITING, reason="RunContainerError", message=str(error), code=_START_FAILED)
            return _START_FAILED
        self._process = process
        self._tell(phase=Phase.RUNNING)
        if self._stopping.is_set():  # stopped while it was being started
            self._signal(signal.SIGKILL)
        watching = asyncio.create_task(self._watch())
        with launcher.held(process.pid, "mnt") as mounts:
            try:
                code = await process.wait()
            finally:
                await _end(watching)
                launcher.kill(launcher.processes("mnt", mounts))  # what the command left behind
        code = code if code >= 0 else 128 - code
        self._tell(
            phase=Phase.TERMINATED, reason="Error" if code else "Completed", message=f"exit code {code}", code=code
        )
        return code

    async def ask(self, action: Action) -> bool:
        """The answer to a probe's or hook's question. Raises OSError when nobody answers."""
        if isinstance(action, Exec):
            try:
                code, _, _ = await self.execute(action.command)
            except LaunchError:
                return False
            return code == 0
        return await prober.ask(self._around.inside, self._around.address, action)

    async def execute(self, argv: tuple[str, ...]) -> tuple[int, bytes, bytes]:
        """Run a command in this container (``kubectl exec``): exit code, stdout, stderr.

        Raises:
            LaunchError: the container does not run, or the command cannot be started.
        """
        if not self.pid:
            raise LaunchError(f"container {self.state.name} does not run")
        launch = replace(self._blueprint.launch, argv=argv, join=self.pid)
        process = await launcher.start(launch, self._blueprint.folder, Output())
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            launcher.kill_session(process)  # what it left behind may hold its pipes open
            await process.wait()
            raise
        return process.returncode or 0, out, err

    async def _watch(self) -> None:
        """Hook, startup probe, then readiness and liveness, while one run lasts."""
        around, hook, probes = self._around, self._blueprint.post_start, self._blueprint.probes
        if hook is not None:
            with contextlib.suppress(OSError):
                await self.ask(hook)
        if probes.startup is not None and not await prober.started(self.ask, probes.startup):
            await self._terminate()
            return
        self.state.started = True
        self.up.set()
        if probes.readiness is None:
            self._set_ready(ready=True)
        else:
            around.changed()
        async with asyncio.TaskGroup() as group:
            if probes.readiness is not None:
                group.create_task(prober.readiness(self.ask, probes.readiness, lambda r: self._set_ready(ready=r)))
            if probes.liveness is not None:
                group.create_task(self._live(probes.liveness))

    async def _live(self, probe: Probe) -> None:
        """End the run when the liveness probe fails."""
        await prober.alive(self.ask, probe)
        await self._terminate()

    async def _terminate(self) -> None:
        """End this run; the caller is cancelled with it."""
        self._signal(signal.SIGTERM)
        await asyncio.sleep(self._blueprint.grace)
        self._signal(signal.SIGKILL)

    def _set_ready(self, *, ready: bool) -> None:
        self.state.ready = ready
        self._around.changed()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid:
            launcher.kill([self.pid], number)

    async def stop(self, grace: float) -> None:
        """End the container for good: preStop hook, SIGTERM, SIGKILL after ``grace`` seconds in all."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            async with asyncio.timeout(grace) as self._limit:
                if self._blueprint.pre_stop is not None:
                    with contextlib.suppress(OSError):
                        await self.ask(self._blueprint.pre_stop)
                self._signal(signal.SIGTERM)
                await process.wait()
        except TimeoutError:
            pass
        finally:
            self._limit = None
        self._signal(signal.SIGKILL)

    def hasten(self, end: float) -> None:
        """Have SIGKILL come at this time of the loop, where a ``stop`` under way has it later."""
        if self._limit is not None and not self._limit.expired() and end < (self._limit.when() or end):
            self._limit.reschedule(end)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for it."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
