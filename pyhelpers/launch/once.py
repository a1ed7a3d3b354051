"""One program in a sandbox, in the foreground: what makes a template. And the trial of an overlay."""

from __future__ import annotations

import os

from launch import calls, init, mounts, namespaces, wire
from launch.broker import Broker
from launch.build import Prepared, make, place_leaf
from launch.errors import FAILED, Failure
from launch.loop import READ, Loop
from launch.owner import Owner
from launch.record import TYPE_CHECKING
from launch.signals import signals
from launch.sockets import Socket, pair

if TYPE_CHECKING:
    from typing import NoReturn

_PIPE = 65536


class Once:
    """Runs the plan's command to its end; its output goes to our standard error."""

    def __init__(self, prepared: Prepared, stdin: int) -> None:
        self.loop = Loop()
        self.code = FAILED
        self.drained = False
        self.wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (signals.SIGTERM, signals.SIGINT, signals.SIGHUP):
            signals.signal(number, lambda *_: None)
        calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
        self.output, log_end = os.pipe2(os.O_CLOEXEC)
        self.leaf = place_leaf(prepared)
        self.box = make(prepared, self.leaf, log_end, stdin)
        os.close(log_end)
        self.broker = Broker(
            prepared.plan, self.box.listener, self.box.root, self.box.killable, lambda *_: None
        )

    def run(self) -> int:
        """The program's exit code; 128 + signal if one ended it or us."""
        watch = self.loop.watch
        watch(self.box.listener, READ, self._notified)
        watch(self.box.link.fileno(), READ, self._told)
        watch(self.output, READ, self._relay)
        watch(self.wake, READ, self._interrupted)
        wire.send(self.box.link, [b"start"])
        self.loop.run()
        os.kill(self.box.pid1, signals.SIGKILL)
        os.waitpid(self.box.pid1, 0)
        while not self.drained:
            self._relay()
        if self.leaf:
            self.leaf.remove()
        return self.code

    def _relay(self) -> None:
        data = os.read(self.output, _PIPE)
        if data:
            os.write(2, data)
        else:
            self.loop.forget(self.output)
            self.drained = True

    def _notified(self) -> None:
        self.broker.serve()  # no connect is granted here, so none is ever pending

    def _told(self) -> None:
        message = wire.receive(self.box.link)
        if message is None or message[0][0] == b"ended":
            status = int(message[0][1]) if message else FAILED << 8
            self.code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            self.loop.stop()

    def _interrupted(self) -> None:
        self.code = 128 + os.read(self.wake, 1)[0]
        self.loop.stop()


def probe(home: str, owner: Owner) -> str:
    """Mount home/lower, home/upper, home/work as an overlay the way a sandbox would, and use it.

    Returns an empty string if it works, else what failed.
    """
    layer = None
    if owner.resolves_as_root:
        layer = _probe_layer(home)  # as root still
    link, theirs = pair()
    child = os.fork()
    if not child:
        link.close()
        _probe_child(home, owner, layer, theirs)
    theirs.close()
    try:
        link.settimeout(10)
        owner.become()
        message = wire.receive(link)
        if message and message[0][0] == b"unshared":
            namespaces.map_ids(child, owner.uid, owner.gid)
            wire.send(link, [b"mapped"])
            message = wire.receive(link)
    finally:
        link.close()
        os.waitpid(child, 0)
    if message is None:
        return "the trial ended early"
    return "" if message[0][0] == b"works" else Failure.decode(b"\0".join(message[0][1:])).message


def _probe_layer(home: str) -> mounts.Layer:
    return mounts.Layer(calls.open_tree(home), calls.open_tree(f"{home}/lower"), "/layer", "upper")


def _probe_child(home: str, owner: Owner, layer: mounts.Layer | None, link: Socket) -> NoReturn:

    def body() -> None:
        calls.prctl(calls.PR_SET_PDEATHSIG, signals.SIGKILL)
        owner.become(1 << calls.CAP_SYS_ADMIN)
        namespaces.enter()
        wire.send(link, [b"unshared"])
        init.expect(link, b"mapped")
        trees = layer or _probe_layer(home)
        root = mounts.begin()
        mounts.attach_layer(trees)
        # A rename of a lower file needs copy-up, a whiteout and the work directory.
        with open(f"{root}/layer/probe.new", "w", encoding="utf-8") as file:
            file.write("x")
        os.rename(f"{root}/layer/probe", f"{root}/layer/probe.moved")
        wire.send(link, [b"works"])

    init.guarded(link, body)
