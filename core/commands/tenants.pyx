"""See tenants.pxd."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from rookery.core.border.arguments cimport acquire_rules, compile_quota, compile_settings, encode_name, view
from rookery.core.border.results cimport decode_resources
from rookery.core.commands.verdicts cimport VerdictCommands
from rookery.core.permissions.rule_set cimport Permissions
from rookery.core.sessions.settings cimport Settings
from rookery.core.sessions.state cimport RESOURCE_COUNT, RESOURCE_FIRST_RATE
from rookery.core.shards.queues cimport command_new
from rookery.core.shards.registry cimport home_shard_of, registry_tell
from rookery.core.shards.state cimport (
    COMMAND_CONFIGURE, COMMAND_REPLACE_PERMISSIONS, COMMAND_SET_PERMISSIONS, COMMAND_THROTTLE, Command,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.structures.hashing cimport hash_bytes

from rookery.core.quotas import RESOURCES
from rookery.core.settings import suggest


@cython.no_gc_clear
cdef class TenantCommands(VerdictCommands):
    def configure_tenant(self, str tenant_id, object settings):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef Settings compiled
        cdef Bytes strings[1]
        cdef uint32_t shard
        cdef Command *command
        compile_settings(settings, &compiled)
        strings[0] = view(tenant)
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_CONFIGURE, strings, 1)
            if command != NULL:
                command.settings = compiled
                command.quota_limits = compile_quota(settings)
            self._put(shard, command)

    def throttle(self, str tenant_id, object resources):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef Bytes strings[1]
        cdef uint64_t closed = 0
        cdef Command *command
        for name in resources:
            if name not in RESOURCES:
                raise ValueError(f"{name!r} is no resource of a tenant{suggest(name, dict.fromkeys(RESOURCES))}")
            closed |= <uint64_t> 1 << <int> RESOURCES.index(name)
        self._shard(0)
        strings[0] = view(tenant)
        command = command_new(COMMAND_THROTTLE, strings, 1)
        if command != NULL:
            command.number = closed
        self._put(
            home_shard_of(hash_bytes(&self._universe.key, strings[0].data, strings[0].size), self.shard_count), command)

    def resources(self, str tenant_id):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef uint64_t counted[RESOURCE_FIRST_RATE + 4 * RESOURCE_COUNT]
        self._shard(0)
        registry_tell(&self._universe.registry, &self._universe.key, view(tenant), counted)
        return decode_resources(counted)

    def set_permissions(
        self, Permissions permissions, *, str tenant_id, str user_id, str client_id
    ):
        cdef bytes tenant = encode_name(tenant_id, "tenant_id")
        cdef bytes user = encode_name(user_id, "user_id")
        cdef bytes client = encode_name(client_id, "client_id")
        cdef Bytes strings[3]
        cdef Command *command
        self._shard(0)
        strings[0] = view(tenant)
        strings[1] = view(user)
        strings[2] = view(client)
        command = command_new(COMMAND_SET_PERMISSIONS, strings, 3)
        if command != NULL:
            command.rules = acquire_rules(permissions)
        self._put(self._owner(strings), command)

    def replace_permissions(self, Permissions replaced not None, Permissions permissions not None):
        cdef uint32_t shard
        cdef Command *command
        replaced.replace_by(permissions)
        self.forget_verdicts()
        for shard in range(<uint32_t> self.shard_count):
            self._shard(shard)
            command = command_new(COMMAND_REPLACE_PERMISSIONS, NULL, 0)
            # Never refused for want of room: rights that were withdrawn must be gone on every shard.
            self._put(shard, command, 0)
