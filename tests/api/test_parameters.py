"""Header parameters: how they are found, decoded and refused."""

import pytest

from rookery.api.parameters import (
    CLIENT_ID,
    CLIENT_TYPE,
    EXPIRY_SECONDS,
    QOS,
    TENANT_ID,
    TOPIC,
    USER_ID,
    VERBOSE,
    ActingClient,
    BadParameter,
    Parameter,
    Parameters,
)

ALL = (TENANT_ID, USER_ID, CLIENT_ID, TOPIC, QOS, EXPIRY_SECONDS, CLIENT_TYPE, VERBOSE)
TEXTS = (TENANT_ID, USER_ID, CLIENT_ID, CLIENT_TYPE)

every_parameter = pytest.mark.parametrize("parameter", ALL, ids=lambda parameter: parameter.name)
every_text = pytest.mark.parametrize("parameter", TEXTS, ids=lambda parameter: parameter.name)


def given(**headers: str | bytes) -> Parameters:
    return Parameters(
        (name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers.items()
    )


@pytest.mark.parametrize("name", [b"tenant_id", b"tenant-id", b"Tenant_Id", b"TENANT-ID", b"Tenant-id"])
def test_name_is_read_in_any_letter_case_and_with_hyphens(name: bytes) -> None:
    assert Parameters([(name, b"acme")]).require(TENANT_ID) == "acme"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"a/b", "a/b"),
        ("café/ü/日本".encode(), "café/ü/日本"),
        (b"caf%C3%A9/%c3%bc", "café/ü"),
        (b"a%2Fb%20c", "a/b c"),
        (b"100%25", "100%"),
        (b"100%", "100%"),
        (b"%zz", "%zz"),
        (b"a+b", "a+b"),
        (b"", ""),
        (b"a%00b", "a\0b"),
    ],
)
def test_topic_is_utf_8_raw_or_percent_encoded(value: bytes, text: str) -> None:
    assert given(topic=value).require(TOPIC) == text


@every_parameter
@pytest.mark.parametrize("value", [b"\xff", b"caf\xe9", b"%FF", b"%C3", b"\xed\xa0\x80"])
def test_value_that_is_not_utf_8_is_refused_by_name(parameter: Parameter[object], value: bytes) -> None:
    with pytest.raises(BadParameter, match=f"^{parameter.name}: expected UTF-8 or percent-encoded UTF-8$"):
        Parameters([(parameter.name.encode(), value)]).require(parameter)


@every_parameter
def test_missing_parameter_is_refused_by_name(parameter: Parameter[object]) -> None:
    with pytest.raises(BadParameter, match=f"^header not found: {parameter.name}$"):
        given().require(parameter)
    assert given().find(parameter) is None


@every_parameter
@pytest.mark.parametrize("names", [("{}", "{}"), ("{}", "{hyphens}"), ("{}", "{capitals}")], ids=str)
def test_doubled_parameter_is_refused_by_name(parameter: Parameter[object], names: tuple[str, str]) -> None:
    name = parameter.name
    spellings = [spelling.format(name, hyphens=name.replace("_", "-"), capitals=name.upper()) for spelling in names]
    doubled = Parameters([(spelling.encode(), b"1") for spelling in spellings])
    with pytest.raises(BadParameter, match=f"^{name}: expected one header, got 2$"):
        doubled.find(parameter)


@every_text
def test_empty_text_is_refused_by_name(parameter: Parameter[str]) -> None:
    with pytest.raises(BadParameter, match=f"^header is empty: {parameter.name}$"):
        Parameters([(parameter.name.encode(), b"")]).require(parameter)


@every_text
def test_text_with_u_0000_is_refused_by_name(parameter: Parameter[str]) -> None:
    with pytest.raises(BadParameter, match=f"^{parameter.name}: expected text without U\\+0000$"):
        Parameters([(parameter.name.encode(), b"a%00")]).require(parameter)


@every_text
def test_text_longer_than_any_of_mqtt_is_refused_by_name(parameter: Parameter[str]) -> None:
    assert Parameters([(parameter.name.encode(), b"x" * 65535)]).require(parameter) == "x" * 65535
    with pytest.raises(BadParameter, match=f"^{parameter.name}: expected at most 65535 bytes$"):
        Parameters([(parameter.name.encode(), "ü".encode() * 32768)]).require(parameter)


@pytest.mark.parametrize("text", ["0", "1", "2", "+1", " 2"])
def test_qos_is_0_1_or_2(text: str) -> None:
    assert given(qos=text).require(QOS) == int(text)


@pytest.mark.parametrize("text", ["-1", "3", "256", "99999999999999999999"])
def test_other_qos_is_refused_as_bifromq_does(text: str) -> None:
    with pytest.raises(BadParameter, match=r"^Invalid QoS$"):
        given(qos=text).require(QOS)


@pytest.mark.parametrize("parameter", [QOS, EXPIRY_SECONDS], ids=lambda parameter: parameter.name)
@pytest.mark.parametrize("text", ["", "one", "1.0", "0x1", "1 2", "nan"])
def test_text_where_a_number_belongs_is_refused_by_name_and_value(parameter: Parameter[int], text: str) -> None:
    with pytest.raises(BadParameter, match=f"^{parameter.name}: expected an integer, got '{text}'$"):
        Parameters([(parameter.name.encode(), text.encode())]).require(parameter)


def test_number_of_thousands_of_digits_is_refused_too() -> None:
    with pytest.raises(BadParameter, match=r"^qos: expected an integer, got '1{100}\.\.\.'$"):
        given(qos="1" * 5000).require(QOS)


def test_expiry_seconds_is_1_to_the_largest_int_of_java() -> None:
    assert [given(expiry_seconds=text).find(EXPIRY_SECONDS) for text in ("1", "2147483647")] == [1, 2**31 - 1]
    for text in ("0", "-1"):
        with pytest.raises(BadParameter, match=r"^Invalid expiry seconds$"):
            given(expiry_seconds=text).find(EXPIRY_SECONDS)
    with pytest.raises(BadParameter, match=r"^expiry_seconds: expected 1 to 2147483647, got '2147483648'$"):
        given(expiry_seconds="2147483648").find(EXPIRY_SECONDS)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("TRUE", True), ("0", False)])
def test_verbose_is_a_switch(text: str, value: bool) -> None:
    assert given(verbose=text).find(VERBOSE) is value
    with pytest.raises(BadParameter, match=r"^verbose: expected 1 or 0, got 'maybe'$"):
        given(verbose="maybe").find(VERBOSE)


def test_acting_client_has_a_type_and_all_its_metadata() -> None:
    parameters = Parameters(
        [(b"Client-Type", b"web"), (b"client_meta_city", b"Ky%C3%AFv"), (b"Client-Meta-Zip-Code", b"7")]
    )
    assert parameters.acting_client() == ActingClient("web", {"city": "Kyïv", "zip_code": "7"})


def test_doubled_metadata_is_refused_by_name() -> None:
    with pytest.raises(BadParameter, match=r"^client_meta_a: expected one header, got 2$"):
        Parameters([(b"client_type", b"web"), (b"client_meta_a", b"1"), (b"client-meta-a", b"2")]).acting_client()


@pytest.mark.parametrize("value", [0, 7, -7, 2**63 - 1, -(2**63)])
def test_request_id_of_the_caller_is_kept(value: int) -> None:
    assert given(req_id=str(value)).request_id() == value


@pytest.mark.parametrize("value", ["", "x", "1.5", str(2**63), "1" * 5000, b"\xff"])
def test_unusable_request_id_is_replaced_by_a_new_one(value: str | bytes) -> None:
    first, second = given(req_id=value).request_id(), given().request_id()
    assert 0 < first < second < 2**63
