"""Properties of 5.0 on their way from one foreign client to another."""

from clients.stranger import Connect, Message, only_5_0

pytestmark = only_5_0


def test_properties_arrive_unaltered_and_in_their_order(connect: Connect, unique: str) -> None:
    message = Message(
        topic=f"{unique}/a",
        payload="größer".encode(),
        qos=1,
        content_type="text/plain; charset=utf-8",
        response_topic=f"{unique}/answer",
        correlation_data=bytes(range(256)),
        user_properties=(("b", "1"), ("b", "2"), ("a", ""), ("größe", "✓")),
    )
    writer, reader = connect("writer"), connect("reader")
    reader.subscribe(f"{unique}/a", 1)
    writer.publish(message)
    assert reader.receive() == message


def test_request_is_answered_on_its_response_topic(connect: Connect, unique: str) -> None:
    requester, responder = connect("requester"), connect("responder")
    responder.subscribe(f"{unique}/service", 1)
    requester.subscribe(f"{unique}/answers/+", 1)
    requester.publish(
        Message(
            topic=f"{unique}/service",
            payload=b"question",
            qos=1,
            response_topic=f"{unique}/answers/requester",
            correlation_data=b"42",
        )
    )
    request = responder.receive()
    assert request.response_topic is not None
    responder.publish(
        Message(topic=request.response_topic, payload=b"answer", qos=1, correlation_data=request.correlation_data)
    )
    answer = requester.receive()
    assert (answer.payload, answer.correlation_data) == (b"answer", b"42")


def test_rest_of_the_message_expiry_is_passed_on(connect: Connect, unique: str) -> None:
    writer, reader = connect("writer"), connect("reader")
    reader.subscribe(f"{unique}/a", 1)
    writer.publish(Message(topic=f"{unique}/a", qos=1, message_expiry_interval=3600))
    rest_s = reader.receive().message_expiry_interval
    assert rest_s is not None
    assert 3590 <= rest_s <= 3600


def test_expired_message_is_not_delivered(connect: Connect, unique: str) -> None:
    reader = connect("reader", is_persistent=True)
    reader.subscribe(f"{unique}/a", 1)
    reader.disconnect()
    writer = connect("writer")
    writer.subscribe(f"{unique}/clock", 1)
    writer.publish(Message(topic=f"{unique}/a", payload=b"stale", qos=1, message_expiry_interval=1))
    writer.publish(Message(topic=f"{unique}/a", payload=b"fresh", qos=1, message_expiry_interval=3600))
    # The broker's own clock tells when the time is up: a will that comes later than the expiry.
    clock = Message(topic=f"{unique}/clock", qos=1)
    connect("clock", is_persistent=True, will=clock, will_delay_interval=3).drop()
    assert writer.receive().topic == f"{unique}/clock"
    assert connect("reader", is_persistent=True).receive().payload == b"fresh"


def test_message_names_the_identifiers_of_the_subscriptions_that_it_matches(connect: Connect, unique: str) -> None:
    client = connect("client")
    client.subscribe(f"{unique}/a", 1, subscription_id=7)
    client.subscribe(f"{unique}/b", 1, subscription_id=268_435_455)
    client.subscribe(f"{unique}/c", 1)
    for topic, subscription_ids in (("a", (7,)), ("b", (268_435_455,)), ("c", ())):
        client.publish(Message(topic=f"{unique}/{topic}", qos=1))
        assert client.receive().subscription_ids == subscription_ids
