"""What holds for tenants: settings, resources, permissions."""

from rookery.core.commands.verdicts cimport VerdictCommands


cdef class TenantCommands(VerdictCommands):
    pass
