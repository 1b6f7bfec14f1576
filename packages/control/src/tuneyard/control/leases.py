"""Leases: no two runs on one device, and whoever asked first is served first.

A device's lease is the lock (flock) on a file of its own, in a folder that all users of the host share:

    <leases>/<host>/devices/GPU-….lock      locked by whoever has the device; tells the run that has it
    <leases>/<host>/queue/000000000007      the ticket of one who waits, locked while he lives

The locked descriptor is inherited by the worker and by what it forks, so the lock lasts as long as any of them. A
ticket whose lock is free belongs to nobody any more and is removed by the next who looks. One waits for every earlier
ticket that asks for any of the same devices: a run that wants eight GPUs is not starved by runs that want one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.control.devices import cpu_slots, gpus, title
from tuneyard.core.errors import SetupError
from tuneyard.core.files import explain_os_error
from tuneyard.core.run_folder import host

LEASES_VARIABLE = "TUNEYARD_LEASES"
"""Another folder for the leases, such as a volume that all containers of one host mount."""

SHARED_FOLDER = Path("/tmp/tuneyard-leases")
"""Not TMPDIR, which may differ between users, and no lock folder of the system, which not all users may write to."""

POLL_SECONDS = 0.2
"""Between two tries of one who waits behind others."""

NEXT_POLL_SECONDS = 0.05
"""Between two tries of the one whose turn it is: no device stands idle for long, and only few look so often."""

_CPU = "cpu-"


@dataclass(frozen=True)
class Lease:
    """Devices that a run has until every copy of these descriptors is closed."""

    devices: tuple[str, ...]
    """UUIDs of the GPUs; for a run without a GPU the name of its CPU slot, `cpu-0`."""
    descriptors: tuple[int, ...]
    """The locked lock files; passed on to the worker."""

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs among the devices."""
        return tuple(device for device in self.devices if not device.startswith(_CPU))

    def refresh(self) -> None:
        """Touch the lock files: some systems remove what lies untouched in a shared folder for days."""
        for descriptor in self.descriptors:
            os.utime(descriptor)

    def release(self) -> None:
        """Close the descriptors of this process. What still runs and has them keeps the devices."""
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)


def lease(n_gpus: int, run_id: str, pause: Callable[[str, float], None] | None = None) -> Lease:
    """Wait until `n_gpus` GPUs (or, for 0, a CPU slot) are free and everyone before has been served; take them.

    Args:
        n_gpus: how many GPUs; 0 for a CPU slot.
        run_id: written into the lock files, for those who wait.
        pause: called between two tries with what is waited for and who holds it, and the seconds until the next try;
            sleeps so long, and may raise to give up. Default: sleeps.

    Raises:
        SetupError: fewer than `n_gpus` GPUs may be used here at all, or the shared folder cannot be used.
    """
    pool = gpus() if n_gpus else [f"{_CPU}{n}" for n in range(cpu_slots())]
    count = n_gpus or 1
    if count > len(pool):
        raise SetupError(
            f"the run wants {count} GPUs and {len(pool)} may be used here",
            where=host(),
            way_out="start it where there are more, or start a new run with fewer (gpus=N)",
        )
    request = Request(pool, count, run_id)
    try:
        while (taken := request.take()) is None:
            (pause or _sleep)(request.obstacle(), NEXT_POLL_SECONDS if request.is_next else POLL_SECONDS)
    finally:
        request.withdraw()
    return taken


def _sleep(reason: str, seconds: float) -> None:
    time.sleep(seconds)


class Request:
    """A place in the queue for `count` of the devices in `pool`."""

    def __init__(self, pool: Sequence[str], count: int, run_id: str, folder: Path | None = None) -> None:
        self.pool = list(pool)
        self.count = count
        self.run_id = run_id
        self.folder = folder or leases_folder()
        self._ticket = -1
        self._number = 0
        self._obstacle = "its turn"
        self.is_next = False
        """Whether, at the last `take`, nobody was before this request and only devices were missing."""
        self._draw()

    def take(self) -> Lease | None:
        """The devices, if it is this request's turn and enough of them are free; never waits."""
        if not self._ticket_stands():
            self._draw()
        os.utime(self._ticket)  # as `Lease.refresh`
        before = self._before()
        self.is_next = before is None
        if before is not None:
            self._obstacle = f"{self._wanted()}, behind {before.get('run', 'another run')}"
            return None
        return self._take_free()

    def obstacle(self) -> str:
        """What stood in the way at the last `take`, such as `GPU 0, held by train-…`."""
        return self._obstacle

    def withdraw(self) -> None:
        """Leave the queue; what was taken stays taken."""
        if self._ticket < 0:
            return
        if self._ticket_stands():
            with suppress(FileNotFoundError):
                os.unlink(self._ticket_path)
        os.close(self._ticket)
        self._ticket = -1

    @property
    def _ticket_path(self) -> Path:
        return self.folder / "queue" / f"{self._number:012d}"

    def _draw(self) -> None:
        """Take the next number. Exclusive creation decides between two; the lock says that its owner lives."""
        self.withdraw()
        while self._ticket < 0:
            self._number = max(_numbers(self.folder), default=0) + 1
            try:
                descriptor = _open(self._ticket_path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits, if at all, for one who took it for a dead one's
            if _stands(self._ticket_path, descriptor):
                self._ticket = descriptor
                _write(descriptor, {"run": self.run_id, "pid": os.getpid(), "pool": self.pool, "count": self.count})
            else:
                os.close(descriptor)

    def _ticket_stands(self) -> bool:
        return self._ticket >= 0 and _stands(self._ticket_path, self._ticket)

    def _before(self) -> dict[str, Any] | None:
        """What the first living ticket before this one says, of those that want any of the same devices."""
        for number in sorted(n for n in _numbers(self.folder) if n < self._number):
            ticket = _read_ticket(self.folder / "queue" / f"{number:012d}")
            if ticket is not None and not set(self.pool).isdisjoint(ticket.get("pool", self.pool)):
                return ticket
        return None

    def _take_free(self) -> Lease | None:
        taken: dict[str, int] = {}
        for device in self.pool:
            if len(taken) < self.count:
                descriptor = _lock(_device_path(self.folder, device))
                if descriptor is not None:
                    taken[device] = descriptor
        if len(taken) < self.count:
            for descriptor in taken.values():
                os.close(descriptor)
            self._obstacle = self._held([d for d in self.pool if d not in taken])
            return None
        for descriptor in taken.values():
            _write(descriptor, {"run": self.run_id, "pid": os.getpid(), "since": time.time()})
        self.withdraw()
        return Lease(tuple(taken), tuple(taken.values()))

    def _wanted(self) -> str:
        if self.pool[0].startswith(_CPU):
            return "a CPU slot"
        return "a GPU" if self.count == 1 else f"{self.count} GPUs"

    def _held(self, busy: list[str]) -> str:
        holders = [f"{_title(d)}, held by {holder(d, self.folder) or 'another run'}" for d in busy]
        if len(busy) == len(self.pool) == 1 or self.count == len(self.pool):
            return "; ".join(holders)
        return f"{self._wanted()} ({'; '.join(holders)})"


def _title(device: str) -> str:
    return f"CPU slot {device.removeprefix(_CPU)}" if device.startswith(_CPU) else title(device)


def holder(device: str, folder: Path | None = None) -> str | None:
    """Id of the run that has a device; None for a free one."""
    path = _device_path(folder or leases_folder(), device)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        if _lock_descriptor(descriptor, fcntl.LOCK_SH):
            return None
        return _read(descriptor).get("run", "another run")
    finally:
        os.close(descriptor)


def leases_folder() -> Path:
    """This host's folder of leases, made where it is not there yet.

    Raises:
        SetupError: it cannot be made or is not what it must be.
    """
    top = Path(os.environ.get(LEASES_VARIABLE) or SHARED_FOLDER)
    folder = top / (re.sub(r"[^\w.-]", "_", host()) or "host")
    for path in (top, folder, folder / "devices", folder / "queue"):
        _make_shared(path)
    return folder


def _make_shared(path: Path) -> None:
    """A folder in which every user may make files and only the owner of one may remove it, as in /tmp."""
    try:
        path.mkdir()
        path.chmod(0o1777)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise SetupError(
                "is not a folder", where=str(path), way_out=f"remove it, or set {LEASES_VARIABLE}"
            ) from None
    except OSError as error:
        raise SetupError(
            f"the folder of the leases cannot be made: {error.strerror}",
            where=str(path),
            way_out=f"set {LEASES_VARIABLE} to a folder that all users of this host may write to",
        ) from error


def _device_path(folder: Path, device: str) -> Path:
    return folder / "devices" / (re.sub(r"[^\w-]", "_", device) + ".lock")


def _numbers(folder: Path) -> list[int]:
    return [int(name) for name in os.listdir(folder / "queue") if name.isdecimal()]


def _open(path: Path, flags: int) -> int:
    """Open a file of the shared folder: never through a link, and such that every user may lock it."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except FileNotFoundError:
        raise
    except FileExistsError:
        raise
    except OSError as error:
        raise explain_os_error(error, path) from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise SetupError("is no regular file", where=str(path), way_out=f"remove it, or set {LEASES_VARIABLE}")
    if flags & os.O_CREAT and stat.S_IMODE(facts.st_mode) != 0o666:
        os.fchmod(descriptor, 0o666)  # the umask is the user's
    return descriptor


def _lock(path: Path) -> int | None:
    """The descriptor of a device's file, locked; None where another has it."""
    while True:
        descriptor = _open_device(path)
        if not _lock_descriptor(descriptor, fcntl.LOCK_EX):
            os.close(descriptor)
            return None
        if _stands(path, descriptor):
            return descriptor
        os.close(descriptor)


def _open_device(path: Path) -> int:
    # Linux may refuse O_CREAT on another user's existing file in such a folder (fs.protected_regular).
    while True:
        try:
            return _open(path, os.O_RDWR)
        except FileNotFoundError:
            with suppress(FileExistsError):
                return _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)


def _lock_descriptor(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stands(path: Path, descriptor: int) -> bool:
    """Whether `path` still names the file that `descriptor` has open."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read_ticket(path: Path) -> dict[str, Any] | None:
    """What a living ticket says; None for one whose owner is gone, which is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not _lock_descriptor(descriptor, fcntl.LOCK_EX):
            return _read(descriptor)
        if _stands(path, descriptor):
            with suppress(OSError):  # in a shared folder only its owner may remove it
                os.unlink(path)
        return None
    finally:
        os.close(descriptor)


def _write(descriptor: int, value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _read(descriptor: int) -> dict[str, Any]:
    try:
        value = json.loads(os.pread(descriptor, 65536, 0))
    except ValueError:  # it is being written
        return {}
    return value if isinstance(value, dict) else {}
