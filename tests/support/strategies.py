"""Hypothesis strategies for whole, valid packets of each protocol version."""

from dataclasses import fields
from typing import Any, Final

from hypothesis import strategies as st

from .packets import (
    MQTT_3_1,
    MQTT_5_0,
    PROPERTIES,
    REASON_CODES,
    RETURN_CODES,
    SUBACK_RETURN_CODES,
    VARIABLE_BYTE_INTEGER_MAXIMUM,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)

# Every code point that a UTF-8 string may hold: no surrogates [MQTT-1.5.4-1], no U+0000 [MQTT-1.5.4-2].
texts: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
topics: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20)
topic_filters: Final = st.one_of(topics, st.sampled_from(["#", "+", "a/#", "a/+/c", "+/b", "$share/group/a/+"]))
binaries: Final = st.binary(max_size=200)
packet_ids: Final = st.integers(1, 0xFFFF)
qos_levels: Final = st.integers(0, 2)

PROPERTY_VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "payload_format_indicator": st.integers(0, 1),
    "message_expiry_interval": st.integers(0, 0xFFFFFFFF),
    "content_type": texts,
    "response_topic": topics,
    "correlation_data": binaries,
    "subscription_id": st.integers(1, VARIABLE_BYTE_INTEGER_MAXIMUM),
    "subscription_ids": st.lists(st.integers(1, VARIABLE_BYTE_INTEGER_MAXIMUM), max_size=3).map(tuple),
    "session_expiry_interval": st.integers(0, 0xFFFFFFFF),
    "assigned_client_id": texts,
    "server_keep_alive": st.integers(0, 0xFFFF),
    "authentication_method": texts,
    "authentication_data": binaries,
    "request_problem_information": st.integers(0, 1),
    "will_delay_interval": st.integers(0, 0xFFFFFFFF),
    "request_response_information": st.integers(0, 1),
    "response_information": texts,
    "server_reference": texts,
    "reason_string": texts,
    "receive_maximum": st.integers(1, 0xFFFF),
    "topic_alias_maximum": st.integers(0, 0xFFFF),
    "topic_alias": st.integers(1, 0xFFFF),
    "maximum_qos": st.integers(0, 1),
    "retain_available": st.integers(0, 1),
    "user_properties": st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    "maximum_packet_size": st.integers(1, 0xFFFFFFFF),
    "wildcard_subscription_available": st.integers(0, 1),
    "subscription_identifier_available": st.integers(0, 1),
    "shared_subscription_available": st.integers(0, 1),
}


@st.composite
def properties(draw: st.DrawFn, packet_class: type[Any], version: int) -> dict[str, Any]:
    """Some of the properties that packet_class may carry; none before 5.0."""
    if version < MQTT_5_0:
        return {}
    names = [field.name for field in fields(packet_class) if field.name in PROPERTIES]
    chosen = draw(st.lists(st.sampled_from(names), unique=True))
    if "authentication_data" in chosen and "authentication_method" not in chosen:
        chosen.append("authentication_method")
    return {name: draw(PROPERTY_VALUES[name]) for name in chosen}


@st.composite
def connects(draw: st.DrawFn, version: int) -> Connect:
    username = draw(st.none() | texts)
    may_have_password = version == MQTT_5_0 or username is not None
    return Connect(
        version=version,
        client_id=draw(texts),
        clean_start=draw(st.booleans()),
        keep_alive=draw(st.integers(0, 0xFFFF)),
        username=username,
        password=draw(st.none() | binaries) if may_have_password else None,
        will=draw(st.none() | wills(version)),
        **draw(properties(Connect, version)),
    )


@st.composite
def wills(draw: st.DrawFn, version: int) -> Will:
    return Will(
        topic=draw(topics),
        payload=draw(binaries),
        qos=draw(qos_levels),
        retain=draw(st.booleans()),
        **draw(properties(Will, version)),
    )


@st.composite
def connacks(draw: st.DrawFn, version: int) -> Connack:
    reason_code = draw(reason_codes(Connack, version, RETURN_CODES))
    may_be_present = reason_code == 0 and version > MQTT_3_1
    return Connack(
        session_present=draw(st.booleans()) if may_be_present else False,
        reason_code=reason_code,
        **draw(properties(Connack, version)),
    )


@st.composite
def publishes(draw: st.DrawFn, version: int) -> Publish:
    qos = draw(qos_levels)
    values = draw(properties(Publish, version))
    return Publish(
        topic=draw(topics | st.just("")) if "topic_alias" in values else draw(topics),
        payload=draw(binaries),
        qos=qos,
        retain=draw(st.booleans()),
        dup=draw(st.booleans()) if qos else False,
        packet_id=draw(packet_ids) if qos else 0,
        **values,
    )


@st.composite
def acknowledgements(
    draw: st.DrawFn, packet_class: type[Puback | Pubrec | Pubrel | Pubcomp], version: int
) -> Puback | Pubrec | Pubrel | Pubcomp:
    return packet_class(
        packet_id=draw(packet_ids),
        reason_code=draw(reason_codes(packet_class, version, frozenset({0}))),
        **draw(properties(packet_class, version)),
    )


@st.composite
def subscriptions(draw: st.DrawFn, version: int) -> Subscription:
    topic_filter, qos = draw(topic_filters), draw(qos_levels)
    if version < MQTT_5_0:
        return Subscription(topic_filter, qos)
    no_local = draw(st.booleans()) and not topic_filter.startswith("$share/")
    return Subscription(topic_filter, qos, no_local, draw(st.booleans()), draw(st.integers(0, 2)))


@st.composite
def subscribes(draw: st.DrawFn, version: int) -> Subscribe:
    return Subscribe(
        packet_id=draw(packet_ids),
        subscriptions=tuple(draw(st.lists(subscriptions(version), min_size=1, max_size=4))),
        **draw(properties(Subscribe, version)),
    )


@st.composite
def subacks(draw: st.DrawFn, version: int) -> Suback:
    codes = reason_codes(Suback, version, SUBACK_RETURN_CODES)
    return Suback(
        packet_id=draw(packet_ids),
        reason_codes=tuple(draw(st.lists(codes, min_size=1, max_size=4))),
        **draw(properties(Suback, version)),
    )


@st.composite
def unsubscribes(draw: st.DrawFn, version: int) -> Unsubscribe:
    return Unsubscribe(
        packet_id=draw(packet_ids),
        topic_filters=tuple(draw(st.lists(topic_filters, min_size=1, max_size=4))),
        **draw(properties(Unsubscribe, version)),
    )


@st.composite
def unsubacks(draw: st.DrawFn, version: int) -> Unsuback:
    if version < MQTT_5_0:
        return Unsuback(packet_id=draw(packet_ids))
    codes = reason_codes(Unsuback, version, frozenset())
    return Unsuback(
        packet_id=draw(packet_ids),
        reason_codes=tuple(draw(st.lists(codes, min_size=1, max_size=4))),
        **draw(properties(Unsuback, version)),
    )


@st.composite
def disconnects(draw: st.DrawFn, version: int) -> Disconnect:
    reason_code = draw(reason_codes(Disconnect, version, frozenset({0})))
    return Disconnect(reason_code=reason_code, **draw(properties(Disconnect, version)))


@st.composite
def auths(draw: st.DrawFn) -> Auth:
    values = draw(properties(Auth, MQTT_5_0))
    reason_code = draw(reason_codes(Auth, MQTT_5_0, frozenset()))
    if reason_code or values:
        values["authentication_method"] = draw(texts)
    return Auth(reason_code=reason_code, **values)


def reason_codes(packet_class: type[Any], version: int, before_5_0: frozenset[int]) -> st.SearchStrategy[int]:
    return st.sampled_from(sorted(REASON_CODES[packet_class] if version == MQTT_5_0 else before_5_0))


def packets(version: int) -> st.SearchStrategy[Packet]:
    """Any valid packet of this version, from either side."""
    choices: list[st.SearchStrategy[Any]] = [
        connects(version),
        connacks(version),
        publishes(version),
        *(acknowledgements(packet_class, version) for packet_class in (Puback, Pubrec, Pubrel, Pubcomp)),
        subscribes(version),
        subacks(version),
        unsubscribes(version),
        unsubacks(version),
        st.just(Pingreq()),
        st.just(Pingresp()),
        disconnects(version),
    ]
    return st.one_of(*choices, auths()) if version == MQTT_5_0 else st.one_of(choices)
