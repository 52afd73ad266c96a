"""What can be wrong with a data folder."""


class LogError(Exception):
    """The log cannot be used as it is; the text says which file, where, and why."""


class LogDamagedError(LogError):
    """Bytes that were on the disk once are no longer what they were."""


class LogTooNewError(LogError):
    """The folder was written by a later version of Rookery."""
