"""The table of tenant settings: names, ranges, profiles, errors."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.core.quotas import RESOURCES
from rookery.core.settings import (
    BIFROMQ,
    DEFAULT,
    NO_LIMIT,
    SETTINGS,
    SETTINGS_BY_NAME,
    Setting,
    SettingError,
    TenantSettings,
)

# The defaults of BifroMQ as its own reference lists them; written out once more, so that a slip in the table is found.
BIFROMQ_DEFAULTS = {
    "MQTT3Enabled": True,
    "MQTT4Enabled": True,
    "MQTT5Enabled": True,
    "NoLWTWhenServerShuttingDown": True,
    "DebugModeEnabled": False,
    "ForceTransient": False,
    "ByPassPermCheckError": True,
    "PayloadFormatValidationEnabled": True,
    "RetainEnabled": True,
    "WildcardSubscriptionEnabled": True,
    "SubscriptionIdentifierEnabled": True,
    "SharedSubscriptionEnabled": True,
    "MaximumQoS": 2,
    "MaxTopicLevelLength": 40,
    "MaxTopicLevels": 16,
    "MaxTopicLength": 255,
    "MaxTopicAlias": 10,
    "MaxSharedGroupMembers": 200,
    "MaxTopicFiltersPerInbox": 100,
    "MsgPubPerSec": 200,
    "ReceivingMaximum": 200,
    "InBoundBandWidth": 524288,
    "OutBoundBandWidth": 524288,
    "MaxLastWillBytes": 128,
    "MaxUserPayloadBytes": 262144,
    "MinSendPerSec": 8,
    "MaxResendTimes": 3,
    "ResendTimeoutSeconds": 10,
    "MaxTopicFiltersPerSub": 10,
    "MaxGroupFanout": 100,
    "MaxPersistentFanout": 2**31 - 1,
    "MaxPersistentFanoutBytes": 2**63 - 1,
    "MaxSessionExpirySeconds": 86400,
    "MinSessionExpirySeconds": 60,
    "MinKeepAliveSeconds": 60,
    "SessionInboxSize": 1000,
    "QoS0DropOldest": False,
    "RetainMessageMatchLimit": 10,
}

# What restores BifroMQ's behaviour, and what it has no setting for.
ROOKERYS_OWN = {"DisconnectForPubRate": True} | {prefix + name: 0 for prefix in ("", "Shadow") for name in RESOURCES}

ASCII = st.text(st.characters(codec="ascii"), max_size=20)  # text of all of Unicode takes a second to set up

NUMBERS = [setting for setting in SETTINGS if not setting.is_switch]
SWITCHES = [setting for setting in SETTINGS if setting.is_switch]


def named(setting: Setting) -> str:
    return setting.name


def test_bifromq_profile_has_all_settings_and_defaults_of_bifromq() -> None:
    names = BIFROMQ.to_names()
    assert {name: names.pop(name) for name in BIFROMQ_DEFAULTS} == BIFROMQ_DEFAULTS
    assert names == ROOKERYS_OWN


def test_default_profile_differs_where_bifromq_cuts_off_what_a_device_may_do() -> None:
    theirs = BIFROMQ.to_names()
    differing = {name: value for name, value in DEFAULT.to_names().items() if value != theirs[name]}
    assert differing == {
        "MsgPubPerSec": 0,
        "InBoundBandWidth": 0,
        "OutBoundBandWidth": 0,
        "RetainMessageMatchLimit": NO_LIMIT,
        "MinKeepAliveSeconds": 1,
        "MaxLastWillBytes": 65536,
        "SessionInboxSize": 10_000,
        "MaxTopicFiltersPerSub": 100,
        "MaxTopicFiltersPerInbox": 10_000,
        "MaxTopicLength": 65535,
        "MaxTopicLevels": 128,
        "MaxTopicLevelLength": 65535,
        "MaxResendTimes": 0,
        "DisconnectForPubRate": False,
    }


def test_names_set_values_on_top_of_the_base() -> None:
    settings = TenantSettings.from_names({"MaxTopicLevels": 8}, base=BIFROMQ)
    assert settings == dataclasses.replace(BIFROMQ, max_topic_levels=8)


@pytest.mark.parametrize("setting", NUMBERS, ids=named)
def test_number_takes_its_whole_range_and_nothing_beyond(setting: Setting) -> None:
    assert setting.minimum is not None
    assert setting.maximum is not None
    for value in (setting.minimum, setting.maximum):
        others = {"MaxSessionExpirySeconds": NO_LIMIT} if setting.name == "MinSessionExpirySeconds" else {}
        assert TenantSettings.from_names({**others, setting.name: value}).to_names()[setting.name] == value
    for value in (setting.minimum - 1, setting.maximum + 1):
        with pytest.raises(SettingError) as raised:
            TenantSettings.from_names({setting.name: value})
        message = f"{value} is out of range; valid is {setting.minimum} to {setting.maximum}"
        assert [(problem.name, problem.message) for problem in raised.value.problems] == [(setting.name, message)]


@pytest.mark.parametrize("value", [True, 1.0, None, [], "many", "1.5", ""], ids=repr)
def test_number_takes_nothing_but_integers(value: object) -> None:
    with pytest.raises(SettingError, match=r"MaxTopicLevels: .* is not an integer; valid is 1 to 2147483647"):
        TenantSettings.from_names({"MaxTopicLevels": value})


@pytest.mark.parametrize("setting", SWITCHES, ids=named)
def test_switch_takes_nothing_but_true_and_false(setting: Setting) -> None:
    for value in (True, False):
        assert TenantSettings.from_names({setting.name: value}).to_names()[setting.name] is value
    for wrong in (1, 0, "yes", None):
        with pytest.raises(SettingError, match=f"{setting.name}: {wrong!r} is neither true nor false"):
            TenantSettings.from_names({setting.name: wrong})


def test_text_is_parsed_as_it_comes_from_the_environment() -> None:
    settings = TenantSettings.from_names({"MaxTopicLevels": "8", "RetainEnabled": "False"})
    assert (settings.max_topic_levels, settings.retain_enabled) == (8, False)


def test_unknown_name_is_an_error_that_suggests_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"maxTopicLevel: unknown setting; did you mean MaxTopicLevels\?"):
        TenantSettings.from_names({"maxTopicLevel": 8})


def test_name_like_no_other_is_an_error_without_a_suggestion() -> None:
    with pytest.raises(SettingError, match=r"^zzz: unknown setting$"):
        TenantSettings.from_names({"zzz": 8})


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SettingError) as raised:
        TenantSettings.from_names({"MaximumQoS": 3, "RetainEnabled": 7, "Nonsense": 1, "MaxTopicLevels": 4})
    assert [problem.name for problem in raised.value.problems] == ["MaximumQoS", "RetainEnabled", "Nonsense"]


def test_instance_cannot_be_made_with_values_out_of_range() -> None:
    with pytest.raises(SettingError, match="MaximumQoS: 3 is out of range"):
        TenantSettings(maximum_qos=3)


def test_given_expiry_minimum_above_the_maximum_is_an_error() -> None:
    with pytest.raises(SettingError, match="MinSessionExpirySeconds: 100 exceeds MaxSessionExpirySeconds, which is 50"):
        TenantSettings.from_names({"MinSessionExpirySeconds": 100, "MaxSessionExpirySeconds": 50})


def test_expiry_maximum_lowers_the_inherited_minimum() -> None:
    assert TenantSettings.from_names({"MaxSessionExpirySeconds": 30}).min_session_expiry_seconds == 30


@given(st.dictionaries(st.sampled_from(sorted(SETTINGS_BY_NAME)), st.integers() | st.booleans() | ASCII))
def test_any_values_give_settings_in_range_or_setting_error(values: dict[str, object]) -> None:
    try:
        settings = TenantSettings.from_names(values)
    except SettingError:
        return
    assert all(setting.check(settings.to_names()[setting.name]) is None for setting in SETTINGS)
