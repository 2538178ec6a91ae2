"""The escapes that an executor tries on itself: run inside, it prints what worked. Standard library only, no import of ours."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import socket
import stat
import sys
from typing import Any

Facts = dict[str, Any]

_MS_REMOUNT_BIND, _MS_BIND = 0x1020, 0x1000
_PTRACE_ATTACH = 16
_TIOCSTI = 0x5412
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str, flags: int) -> bool:
    return bool(_libc.mount(source.encode(), target.encode(), kind.encode(), flags, None) == 0)


def _opens(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags))
    except OSError:
        return False
    return True


def remount(_facts: Facts) -> str | None:
    for folder in ("/", "/usr", "/etc", "/inputs"):
        _mount("none", folder, "none", _MS_REMOUNT_BIND)
        file = os.path.join(folder, ".bacalhau-magic-trial")
        if _opens(file, os.O_WRONLY | os.O_CREAT):
            os.unlink(file)
            return f"{folder} could be made writable"
    if _mount("none", "/tmp", "tmpfs", 0) or _mount("/proc", "/tmp", "none", _MS_BIND):
        return "a job could mount"
    return None


def namespaces(_facts: Facts) -> str | None:
    # A user namespace would give a job all capabilities inside it, and with them much more of the kernel to attack.
    for flag, name in ((0x10000000, "user"), (0x00020000, "mount"), (0x40000000, "network")):
        # In a child: what it gives is other rights, and the next escapes are to be tried with these.
        pid = os.fork()
        if not pid:
            os._exit(_libc.unshare(flag) == 0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            return f"a job could make a {name} namespace"
    return None


def proc_sys(_facts: Facts) -> str | None:
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname"):
        if _opens(path, os.O_WRONLY):
            return f"{path} could be written"
    return None


def devices(facts: Facts) -> str | None:
    for number, kind in ((os.makedev(1, 1), stat.S_IFCHR), (facts["device"], stat.S_IFBLK)):
        path = "/tmp/trial-device"
        try:
            os.mknod(path, kind | 0o600, number)
        except OSError:
            continue
        opened = _opens(path, os.O_RDONLY)
        os.unlink(path)
        return "a job could make a device" + (" and open it" if opened else "")
    return None


def outside_processes(facts: Facts) -> str | None:
    pid = facts["pid"]
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if facts["cmdline"].encode(errors="surrogateescape") == file.read():
                return "a job could see the processes outside"
    except OSError:
        pass
    for other in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with open(f"/proc/{other}/status") as file:
            namespaces = next((line.split()[1:] for line in file if line.startswith("NSpid:")), [])
        if len(namespaces) > 1 and namespaces[-1] != str(other):
            return "a job could see the processes outside"
    if pid != os.getpid() and pid > 40 and _libc.ptrace(_PTRACE_ATTACH, pid, None, None) == 0:
        return "a job could trace a process outside"
    return None


def host_files(facts: Facts) -> str | None:
    for path in (
        facts["canary"],
        "/proc/1/root" + facts["canary"],
        "/proc/1/cwd" + facts["canary"],
        "/etc/shadow",
        "/sys/kernel",
        "/root/.ssh",
    ):
        if os.path.exists(path):
            return f"{path} could be seen"
    return None


def abstract_sockets(facts: Facts) -> str | None:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect("\0" + facts["socket"])
    except OSError:
        return None
    finally:
        client.close()
    return "a job could reach an abstract socket"


def network(facts: Facts) -> str | None:
    try:
        socket.create_connection(("127.0.0.1", facts["port"]), 0.5).close()
    except OSError:
        pass
    else:
        return "a job without network could reach this machine"
    names = [
        name
        for _, name in socket.if_nameindex()
        if name not in ("lo", "tunl0", "sit0", "ip6tnl0", "gre0", "erspan0", "gretap0", "ip_vti0", "ip6_vti0")
    ]
    return f"a job without network has {names[0]}" if names else None


def terminal(_facts: Facts) -> str | None:
    opened = []
    try:
        opened.append(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        pass
    for fd in (0, *opened):
        try:
            fcntl.ioctl(fd, _TIOCSTI, b"\n")
        except OSError:
            continue
        return "a job could type into the terminal"
    return None


def privileges(_facts: Facts) -> str | None:
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        if int(status[name], 16):
            return f"a job has capabilities ({name} {status[name]})"
    if status.get("NoNewPrivs", "1") != "1":
        return "a job could gain privileges"
    if os.getuid() == 0:
        return "a job runs as root"
    return None


ESCAPES = (remount, namespaces, proc_sys, devices, outside_processes, host_files, abstract_sockets, network, terminal, privileges)


def works(_facts: Facts) -> str | None:
    """What a job must be able to do; None when it can."""
    try:
        for path in ("/outputs/trial", os.path.join(os.environ["HOME"], "trial"), "/tmp/trial", "/dev/shm/trial"):
            with open(path, "w") as file:
                file.write("trial")
        with open("/dev/null", "wb") as file:
            file.write(b"x")
        os.urandom(1)
    except OSError as error:
        return f"a job can't write {error.filename}: {error.strerror}"
    return None


def processes_bounded() -> bool:
    """Whether the limit on processes counts this job's own ones and is kept."""
    resource.setrlimit(resource.RLIMIT_NPROC, (8, 8))
    children, refused = [], False
    reader, writer = os.pipe()
    for _ in range(10):
        try:
            pid = os.fork()
        except OSError as error:
            refused = error.errno == errno.EAGAIN
            break
        if not pid:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        children.append(pid)
    os.close(writer)
    for pid in children:
        os.waitpid(pid, 0)
    return refused and len(children) >= 3


def main() -> None:
    with open(sys.argv[1]) as file:
        facts = json.load(file)
    answer: dict[str, Any] = {"works": works(facts), "escapes": {}}
    for escape in ESCAPES:
        try:
            answer["escapes"][escape.__name__] = escape(facts)
        except Exception as error:  # noqa: BLE001  (a check that can't be made is not a proof)
            answer["escapes"][escape.__name__] = f"{escape.__name__} could not be tried: {error!r}"
    answer["processes"] = processes_bounded()
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
