"""What the process tells its caller."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Above 2 those of sysexits.h, and 128 plus the number of a signal that ended the process at once."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DATA = 65  # the durable log is damaged, or of a later version
    UNAVAILABLE = 69  # an address cannot be listened on, the admin database is locked
    PERMISSION = 77  # the operating system does not let us: a port below 1024, a file, a full disk
    CONFIG = 78
    INTERRUPTED = 130
