"""See results.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from rookery.core.border.pages cimport decode_page
from rookery.core.sessions.drops cimport DROP_REASON_COUNT
from rookery.core.sessions.notices cimport Notice, notice_string
from rookery.core.sessions.state cimport RESOURCE_COUNT, RESOURCE_FIRST_RATE
from rookery.core.shards.queues cimport event_string
from rookery.core.shards.state cimport (
    CONNECT_CLIENT_ID, CONNECT_DATA, CONNECT_HAS_DATA, CONNECT_HAS_METHOD, CONNECT_HAS_PASSWORD, CONNECT_HAS_USERNAME,
    CONNECT_HAS_WILL, CONNECT_IS_CLEAN_START, CONNECT_IS_WILL_RETAINED, CONNECT_METHOD, CONNECT_PASSWORD, CONNECT_PEER,
    CONNECT_PROPERTIES, CONNECT_USERNAME, CONNECT_WANTS_RESPONSE_INFORMATION, CONNECT_WILL_QOS_SHIFT,
    CONNECT_WILL_TOPIC, EVENT_AUTHENTICATION_ABANDONED, EVENT_AUTH_RECEIVED, EVENT_CONNECTION_CLOSED,
    EVENT_CONNECT_REQUESTED, EVENT_NO_SESSION, EVENT_NUMBER, EVENT_PAGE,
    EVENT_PUBLISHED, EVENT_REAUTHENTICATION_REQUESTED,
    EVENT_SESSION, EVENT_STATISTICS, EVENT_STOPPED, PUBLISHED_DROPS,
    REAUTHENTICATION_CLIENT_ID, REAUTHENTICATION_DATA, REAUTHENTICATION_METHOD, REAUTHENTICATION_PEER,
    REAUTHENTICATION_PROPERTIES, REAUTHENTICATION_TENANT_ID, REAUTHENTICATION_USER_ID, RECEIVED_DATA, RECEIVED_HAS_DATA,
    RECEIVED_HAS_REASON_STRING, RECEIVED_PROPERTIES, RECEIVED_REASON_STRING, Event,
)
from rookery.core.structures.bytes cimport Bytes
from rookery.core.wire.decode cimport next_user_property

from rookery.core.events import (
    AuthenticationAbandoned, AuthReceived, ConnectionClosed, ConnectRequested, PublishOutcome,
    ReauthenticationRequested, Reply, SessionInfo, ShardStatistics, ShardStopped,
)
from rookery.core.notices import Notice as _Notice
from rookery.core.notices import NoticeKind
from rookery.core.quotas import RESOURCES, ResourceState


cdef tuple _pairs_taken(const Event *event, uint32_t number):
    cdef Bytes rest = event_string(event, number)
    cdef Bytes name, value
    cdef list pairs = []
    while next_user_property(&rest, &name, &value):
        pairs.append((
            (<const char *> name.data)[:name.size].decode(), (<const char *> value.data)[:value.size].decode()))
    return tuple(pairs)


cdef bytes _taken(const Event *event, uint32_t number):
    cdef Bytes string = event_string(event, number)
    return (<const char *> string.data)[:string.size]


cdef object _session_info(const Event *event, tuple session_key):
    tenant_id, user_id, client_id = session_key
    return SessionInfo(
        tenant_id=tenant_id,
        user_id=user_id,
        client_id=client_id,
        protocol_version=event.flags[0],
        is_online=bool(event.flags[1]),
        is_persistent=bool(event.flags[2]),
        channel_id=f"{event.numbers[0]:016x}" if event.flags[1] else "",
        peer=_taken(event, 1).decode(),
        attributes=_taken(event, 0),
        subscription_count=event.numbers[1],
        inbox_count=event.numbers[2],
        inflight_count=event.numbers[3],
        session_expiry_interval=event.numbers[4],
        keep_alive=event.numbers[5],
        connected_at_ms=event.numbers[6],
        detached_at_ms=None if event.flags[1] else event.numbers[7],
    )


cdef object _connect_requested(const Event *event):
    cdef uint64_t flags = event.numbers[3]
    return ConnectRequested(
        connection=event.request,
        listener_id=event.numbers[0],
        peer=_taken(event, CONNECT_PEER).decode(),
        protocol_version=event.flags[0],
        client_id=_taken(event, CONNECT_CLIENT_ID).decode(),
        username=_taken(event, CONNECT_USERNAME).decode() if flags & CONNECT_HAS_USERNAME else None,
        password=_taken(event, CONNECT_PASSWORD) if flags & CONNECT_HAS_PASSWORD else None,
        clean_start=bool(flags & CONNECT_IS_CLEAN_START),
        keep_alive=event.numbers[1],
        session_expiry_interval=event.numbers[2],
        will_topic=_taken(event, CONNECT_WILL_TOPIC).decode() if flags & CONNECT_HAS_WILL else None,
        will_qos=flags >> CONNECT_WILL_QOS_SHIFT & 3,
        will_retain=bool(flags & CONNECT_IS_WILL_RETAINED),
        request_response_information=bool(flags & CONNECT_WANTS_RESPONSE_INFORMATION),
        user_properties=_pairs_taken(event, CONNECT_PROPERTIES),
        authentication_method=_taken(event, CONNECT_METHOD).decode() if flags & CONNECT_HAS_METHOD else None,
        authentication_data=_taken(event, CONNECT_DATA) if flags & CONNECT_HAS_DATA else None,
        ticket=event.numbers[4],
        epoch=event.numbers[5],
    )


cdef object _auth_received(const Event *event):
    cdef uint8_t flags = event.flags[0]
    return AuthReceived(
        connection=event.request,
        authentication_data=_taken(event, RECEIVED_DATA) if flags & RECEIVED_HAS_DATA else None,
        reason_string=_taken(event, RECEIVED_REASON_STRING).decode() if flags & RECEIVED_HAS_REASON_STRING else None,
        user_properties=_pairs_taken(event, RECEIVED_PROPERTIES),
    )


cdef object _reauthentication_requested(const Event *event):
    return ReauthenticationRequested(
        connection=event.request,
        listener_id=event.numbers[0],
        peer=_taken(event, REAUTHENTICATION_PEER).decode(),
        protocol_version=5,
        client_id=_taken(event, REAUTHENTICATION_CLIENT_ID).decode(),
        tenant_id=_taken(event, REAUTHENTICATION_TENANT_ID).decode(),
        user_id=_taken(event, REAUTHENTICATION_USER_ID).decode(),
        authentication_method=_taken(event, REAUTHENTICATION_METHOD).decode(),
        authentication_data=_taken(event, REAUTHENTICATION_DATA) if event.flags[0] & RECEIVED_HAS_DATA else None,
        user_properties=_pairs_taken(event, REAUTHENTICATION_PROPERTIES),
    )


cdef object _statistics(const Event *event, uint32_t shard):
    return ShardStatistics(
        shard=shard,
        connections=event.numbers[0],
        sessions=event.numbers[1],
        tenants=event.numbers[2],
        subscriptions=event.numbers[3],
        retained_messages=event.numbers[4],
        messages_received=event.numbers[5],
        messages_sent=event.numbers[6],
        messages_dropped=event.numbers[7],
        bytes_received=event.numbers[8],
        bytes_sent=event.numbers[9],
        turns=event.numbers[10],
        actions_denied=event.numbers[11],
        connections_held=event.numbers[12],
        resources_throttled=event.numbers[13],
        verdicts_recalled=event.numbers[14],
        cached_topics=event.numbers[15],
        spare_bytes=event.numbers[16],
    )


cdef tuple decode_resources(const uint64_t *counted):
    cdef int number
    numbers = [counted[number] for number in range(RESOURCE_FIRST_RATE + 4 * RESOURCE_COUNT)]
    rows = numbers[RESOURCE_FIRST_RATE:]
    return tuple(
        ResourceState(name, numbers[place] if place < RESOURCE_FIRST_RATE else None, *rows[4 * place:4 * place + 4])
        for place, name in enumerate(RESOURCES)
    )


cdef str _words(const Notice *notice, uint32_t number):
    cdef Bytes string = notice_string(notice, number)
    return (<const char *> string.data)[:string.size].decode("utf-8", "backslashreplace")


cdef object decode_notice(const Notice *notice, uint64_t wall_offset_ms):
    return _Notice(
        NoticeKind(notice.kind), notice.at_ms + wall_offset_ms, _words(notice, 0), _words(notice, 1),
        _words(notice, 2), _words(notice, 3), _words(notice, 4),
        (notice.numbers[0], notice.numbers[1], notice.numbers[2], notice.numbers[3]))


cdef object decode_event(const Event *event, uint32_t shard, dict asked):
    if event.kind == EVENT_CONNECT_REQUESTED:
        return _connect_requested(event)
    if event.kind == EVENT_AUTH_RECEIVED:
        return _auth_received(event)
    if event.kind == EVENT_REAUTHENTICATION_REQUESTED:
        return _reauthentication_requested(event)
    if event.kind == EVENT_CONNECTION_CLOSED:
        return ConnectionClosed(event.request)
    if event.kind == EVENT_AUTHENTICATION_ABANDONED:
        return AuthenticationAbandoned(event.request)
    if event.kind == EVENT_PUBLISHED:
        return Reply(event.request, PublishOutcome(
            matched=event.numbers[0], queued=event.numbers[1], dropped=event.numbers[2],
            retained=bool(event.numbers[3]),
            drops=tuple([event.numbers[PUBLISHED_DROPS + number] for number in range(DROP_REASON_COUNT)])))
    if event.kind == EVENT_SESSION:
        return Reply(event.request, _session_info(event, asked.pop(event.request)))
    if event.kind == EVENT_NO_SESSION:
        asked.pop(event.request, None)
        return Reply(event.request, None)
    if event.kind == EVENT_PAGE:
        return Reply(event.request, decode_page(event))
    if event.kind == EVENT_NUMBER:
        return Reply(event.request, event.numbers[0])
    if event.kind == EVENT_STATISTICS:
        return Reply(event.request, _statistics(event, shard))
    assert event.kind == EVENT_STOPPED
    return ShardStopped(shard, event.numbers[0])
