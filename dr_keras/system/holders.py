"""Who holds a claim or a lock: a process that others can name, and tell whether it is alive.

A holder is a dict as JSON keeps it:

    host, process, thread    names of the machine and process, and the thread's number there
    place                    boot and process namespace in which `process` means something, or ""
    started                  when the process began, in whatever unit the system tells, or ""
    since                    seconds since 1970 when it took hold
    doing                    what it is at, in words
    token                    of this hold alone
"""

import datetime
import functools
import os
import pathlib
import socket
import subprocess
import threading
import time
import uuid


def this_process(doing: str = "") -> dict:
    """A new holder: the calling thread."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "thread": threading.get_ident(),
        "place": _place(),
        "started": _started(os.getpid()),
        "since": round(time.time(), 3),
        "doing": doing,
        "token": uuid.uuid4().hex,
    }


def is_of_this_host(holder: dict) -> bool:
    return holder.get("host") == socket.gethostname()


def is_dead(holder: dict) -> bool:
    """Whether the holder was a process of this machine that is no more; False where in doubt.

    A process of the same number that began at another time is another one. In another container
    numbers mean other processes, so nothing is said about its holders.
    """
    if not is_of_this_host(holder):
        return False
    try:
        process = int(holder["process"])
        boot, _, namespace = str(holder.get("place", "")).partition(" ")
        our_boot, _, our_namespace = _place().partition(" ")
        if boot and our_boot and boot != our_boot:
            return True  # this machine was started anew since
        if namespace and namespace != our_namespace:
            return False
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, TypeError, ValueError, OverflowError):
        return False
    known, now = holder.get("started"), _started(process)
    return bool(known and now and known != now)


def described(holder: dict) -> str:
    """The holder in words, for one line: "filter_corpus, process 12 on host, since ... UTC"."""
    try:
        process, host = int(holder["process"]), str(holder["host"])
    except (KeyError, TypeError, ValueError):
        return "another process, which has not written its name yet"
    doing = str(holder.get("doing") or "another run")
    since = holder.get("since")
    when = ""
    if isinstance(since, (int, float)):
        at = datetime.datetime.fromtimestamp(since, datetime.UTC)
        when = f", since {at:%Y-%m-%d %H:%M:%S} UTC"
    if is_of_this_host(holder) and process == os.getpid():
        return f"{doing} in another thread of this process ({process} on {host}){when}"
    return f"{doing}, process {process} on {host}{when}"


@functools.cache
def _place() -> str:
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, ValueError):
        return ""


def _started(process: int) -> str:
    """When a process began, as the system says it; "" where it says nothing."""
    try:
        stat = pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]  # the name in brackets may hold anything
    except (OSError, IndexError):
        pass
    try:
        command = ["ps", "-o", "lstart=", "-p", str(process)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
