"""What trio's nurseries leave to their users."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_error() -> Iterator[None]:
    """Around a nursery that is an implementation detail: an error that is alone in its group leaves as itself.

    One level only, because a group inside may be the caller's own.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        (error,) = group.exceptions
        raise error from error.__cause__
