"""Messages that come from beside MQTT: handed out, kept, taken away."""

from rookery.core.commands.tenants cimport TenantCommands


cdef class MessageCommands(TenantCommands):
    pass
