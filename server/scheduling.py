"""How the kernel shares a CPU among our threads: shards go first, the control plane waits.

A thread has the niceness and the slice of its maker, so both are set on the thread that makes the shards, before and
after it does. The slice is how long a thread may go on once it runs. A shard that wakes with a short one interrupts a
thread with a long one sooner; with slices alike it more often waits until Python has used up its own (Linux 6.12 and
later; earlier ones know one slice for all).
"""

import ctypes
import os
import platform
import threading

NICENESS = 10  # Python bursts of the control plane then cost a message 1 ms at the 99th percentile instead of 4.
SHARD_SLICE_NS = 100_000  # the shortest that the kernel takes

_SYSTEM_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}  # sched_setattr and sched_getattr


class _Attributes(ctypes.Structure):
    """struct sched_attr of linux/sched/types.h, as of its first version."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),  # of the ordinary policy: the slice in nanoseconds, 0 = the kernel's own
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    ]


def go_first() -> bool:
    """Give this thread, and those that it makes, the slice of shards; whether the kernel took it."""
    return set_slice(SHARD_SLICE_NS)


def yield_to_shards() -> None:
    """Make this thread, and those that it makes from now on, give way to the shards that it has made."""
    set_slice(0)
    thread_id = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread_id, os.getpriority(os.PRIO_PROCESS, thread_id) + NICENESS)


def set_slice(slice_ns: int) -> bool:
    """The slice of this thread, 0: the kernel's own; False where it cannot be set or the policy has none."""
    numbers = _SYSTEM_CALLS.get(platform.machine())
    attributes = _read(numbers)
    if numbers is None or attributes is None or attributes.policy not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return False
    attributes.runtime = slice_ns
    return bool(ctypes.CDLL(None, use_errno=True).syscall(numbers[0], 0, ctypes.byref(attributes), 0) == 0)


def slice_of_this_thread() -> int | None:
    """In nanoseconds; None where the kernel does not say."""
    attributes = _read(_SYSTEM_CALLS.get(platform.machine()))
    return None if attributes is None else int(attributes.runtime)


def _read(numbers: tuple[int, int] | None) -> _Attributes | None:
    attributes = _Attributes()
    if numbers is None:
        return None
    size = ctypes.sizeof(attributes)
    done = ctypes.CDLL(None, use_errno=True).syscall(numbers[1], 0, ctypes.byref(attributes), size, 0)
    return attributes if done == 0 else None
