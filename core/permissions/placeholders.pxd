"""Placeholders: the names of whoever asks, and levels of rules that stand for them.

A level such as `%c-x` is kept as bytes in which a mark that UTF-8 text does not have stands for the name: `\\xff-x`.
"""

from libc.stdint cimport uint8_t
from rookery.core.structures.bytes cimport Bytes

cdef enum:                       # places of Identity.names
    TENANT_NAME = 0
    USER_NAME = 1
    CLIENT_NAME = 2
    NAME_COUNT = 3

cdef enum:
    TENANT_MARK = 0xFD           # the marks, in the order of Identity.names
    USER_MARK = 0xFE
    CLIENT_MARK = 0xFF

cdef enum Fit:
    UNFIT = -1                   # a name cannot stand in a topic level
    DIFFERS = 0
    FITS = 1


cdef struct Identity:            # who asks
    Bytes names[3]               # of tenant, user and client; borrowed
    uint8_t unfit                # bit n: name n is empty or holds "/", "+" or "#": it cannot stand in a level
    uint8_t unfit_at_front       # also those that begin with "$": they cannot begin a topic


# Fill unfit and unfit_at_front in from the names.
cdef void inspect_names(Identity *identity) noexcept nogil
# Is text the level that pattern stands for? UNFIT when one of its names cannot stand there.
cdef Fit fit_pattern(
    const uint8_t *pattern, Py_ssize_t pattern_size, const Identity *identity, bint is_first_level,
    const uint8_t *text, Py_ssize_t size) noexcept nogil
