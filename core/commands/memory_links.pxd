"""Connections without a socket, for tests and embedding."""

from rookery.core.commands.lists cimport ListCommands
from rookery.core.shards.state cimport MemoryLink


cdef class MemoryLinkCommands(ListCommands):
    cdef dict _links                  # number -> address of a MemoryLink
    cdef object _link_numbers
    cdef MemoryLink *_link(self, object number) except NULL
