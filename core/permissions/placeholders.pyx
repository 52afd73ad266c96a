"""See placeholders.pxd."""

from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

from rookery.core.structures.bytes cimport Bytes
from rookery.core.topics.names cimport LEVEL_SEPARATOR, MULTI_LEVEL, SINGLE_LEVEL, SYSTEM_MARK


cdef void inspect_names(Identity *identity) noexcept nogil:
    cdef uint8_t index
    cdef Bytes name
    identity.unfit = 0
    identity.unfit_at_front = 0
    for index in range(NAME_COUNT):
        name = identity.names[index]
        if (
            name.size == 0
            or memchr(name.data, LEVEL_SEPARATOR, name.size) != NULL
            or memchr(name.data, SINGLE_LEVEL, name.size) != NULL
            or memchr(name.data, MULTI_LEVEL, name.size) != NULL
        ):
            identity.unfit |= <uint8_t> (1 << index)
        elif name.data[0] == SYSTEM_MARK:
            identity.unfit_at_front |= <uint8_t> (1 << index)
    identity.unfit_at_front |= identity.unfit


cdef Fit fit_pattern(
    const uint8_t *pattern, Py_ssize_t pattern_size, const Identity *identity, bint is_first_level,
    const uint8_t *text, Py_ssize_t size
) noexcept nogil:
    cdef Py_ssize_t index
    cdef Py_ssize_t place = 0
    cdef Fit fit = FITS
    cdef Bytes name
    cdef uint8_t mark
    if pattern_size == 1:
        # Nothing but a name, as nearly always.
        mark = pattern[0] - TENANT_MARK
        if (identity.unfit_at_front if is_first_level else identity.unfit) >> mark & 1:
            return UNFIT
        name = identity.names[mark]
        return FITS if name.size == size and memcmp(name.data, text, size) == 0 else DIFFERS
    # To the end in any case: what is behind the first difference may be unfit.
    for index in range(pattern_size):
        if pattern[index] < TENANT_MARK:
            if fit == FITS and (place >= size or text[place] != pattern[index]):
                fit = DIFFERS
            place += 1
            continue
        mark = pattern[index] - TENANT_MARK
        if (identity.unfit_at_front if is_first_level and index == 0 else identity.unfit) >> mark & 1:
            return UNFIT
        name = identity.names[mark]
        if fit == FITS and (size - place < name.size or memcmp(text + place, name.data, name.size) != 0):
            fit = DIFFERS
        place += name.size
    return DIFFERS if place != size else fit
