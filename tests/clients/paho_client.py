"""paho-mqtt: the reference library of the Python world, with a network thread of its own."""

import queue
import socket
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .stranger import DEADLINE_S, MQTT_3_1_1, MQTT_5_0, Closed, Mailbox, Message, Options, Refused, Stranger

PROTOCOLS = {MQTT_3_1_1: MQTTProtocolVersion.MQTTv311, MQTT_5_0: MQTTProtocolVersion.MQTTv5}


class Paho(Stranger):
    def __init__(self, options: Options) -> None:
        self._version = options.version
        self._mailbox = Mailbox()
        self._answers: queue.Queue[Any] = queue.Queue()
        is_5_0 = options.version == MQTT_5_0
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if is_5_0 else options.clean_start,
            protocol=PROTOCOLS[options.version],
            reconnect_on_failure=False,
            transport="tcp" if options.websocket_path is None else "websockets",
        )
        if options.websocket_path is not None:
            client.ws_set_options(options.websocket_path)
        if options.tls is not None:
            client.tls_set(options.tls.authority_file, options.tls.certificate_file)
        client.max_inflight_messages_set(0)  # Unlimited: the library holds nothing back.
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = lambda client, userdata, mid, reason_codes, properties: self._answers.put(reason_codes)
        client.on_unsubscribe = lambda client, userdata, mid, reason_codes, properties: self._answers.put(mid)
        if options.username is not None:
            client.username_pw_set(options.username)
        if options.will is not None:
            will = options.will
            client.will_set(will.topic, will.payload, will.qos, will.retain, will_properties(options))
        client.connect(
            *options.address,
            options.keep_alive,
            clean_start=options.clean_start if is_5_0 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=connect_properties(options),
        )
        client.loop_start()
        connected = self._answers.get(timeout=DEADLINE_S)
        if isinstance(connected, ReasonCode):
            client.loop_stop()
            raise Refused(connected)
        self.session_present = connected.session_present

    def subscribe(self, topic_filter: str, qos: int = 0, *, subscription_id: int | None = None) -> int:
        if self._version == MQTT_5_0:
            properties = new_properties(PacketTypes.SUBSCRIBE)
            if subscription_id is not None:
                properties.SubscriptionIdentifier = subscription_id
            self._client.subscribe(topic_filter, options=SubscribeOptions(qos), properties=properties)
        else:
            self._client.subscribe(topic_filter, qos)
        (reason_code,) = self._answers.get(timeout=DEADLINE_S)
        value: int = reason_code.value
        return value

    def unsubscribe(self, topic_filter: str) -> None:
        _, mid = self._client.unsubscribe(topic_filter)
        assert self._answers.get(timeout=DEADLINE_S) == mid

    def publish(self, *messages: Message) -> None:
        published = [
            self._client.publish(
                message.topic,
                message.payload,
                message.qos,
                message.retain,
                message_properties(message, PacketTypes.PUBLISH) if self._version == MQTT_5_0 else None,
            )
            for message in messages
        ]
        for info in published:
            info.wait_for_publish(DEADLINE_S)
            assert info.is_published(), f"not acknowledged within {DEADLINE_S:g} s: message {info.mid}"

    def receive(self) -> Message:
        return self._mailbox.receive()

    def expect_closed(self) -> int | None:
        return self._mailbox.expect_closed()

    def disconnect(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def drop(self) -> None:
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: ReasonCode, properties: Any) -> None:
        self._answers.put(reason_code if reason_code.is_failure else flags)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: ReasonCode, properties: Any) -> None:
        self._mailbox.put(Closed(reason_code.value if flags.is_disconnect_packet_from_server else None))

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        self._mailbox.put(read_message(message))


def new_properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def connect_properties(options: Options) -> Properties | None:
    if options.version != MQTT_5_0:
        return None
    properties = new_properties(PacketTypes.CONNECT)
    if options.session_expiry_interval is not None:
        properties.SessionExpiryInterval = options.session_expiry_interval
    return properties


def will_properties(options: Options) -> Properties | None:
    if options.version != MQTT_5_0:
        return None
    assert options.will is not None
    properties = message_properties(options.will, PacketTypes.WILLMESSAGE)
    if options.will_delay_interval is not None:
        properties.WillDelayInterval = options.will_delay_interval
    return properties


def message_properties(message: Message, packet_type: int) -> Properties:
    properties = new_properties(packet_type)
    if message.message_expiry_interval is not None:
        properties.MessageExpiryInterval = message.message_expiry_interval
    if message.content_type is not None:
        properties.ContentType = message.content_type
    if message.response_topic is not None:
        properties.ResponseTopic = message.response_topic
    if message.correlation_data is not None:
        properties.CorrelationData = message.correlation_data
    if message.user_properties:
        properties.UserProperty = list(message.user_properties)
    return properties


def read_message(message: Any) -> Message:
    """From paho's (or aiomqtt's) message."""
    properties = getattr(message, "properties", None)
    return Message(
        topic=str(message.topic),
        payload=message.payload,
        qos=message.qos,
        retain=message.retain,
        message_expiry_interval=getattr(properties, "MessageExpiryInterval", None),
        content_type=getattr(properties, "ContentType", None),
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation_data=getattr(properties, "CorrelationData", None),
        user_properties=tuple(tuple(pair) for pair in getattr(properties, "UserProperty", ())),
        subscription_ids=tuple(getattr(properties, "SubscriptionIdentifier", ())),
    )
