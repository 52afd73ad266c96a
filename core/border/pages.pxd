"""Pages: rows of lists on their way out, as the tuples of rookery.core.pages."""

from rookery.core.shards.state cimport Event
from rookery.core.structures.rows cimport Rows


# What registry_list has written.
cdef list decode_tenants(const Rows *rows)
# EVENT_PAGE.
cdef object decode_page(const Event *event)
