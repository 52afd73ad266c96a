"""Layers of settings and what is in force."""

import pytest

from rookery.core.errors import EngineBusy
from rookery.core.settings import SettingError, TenantSettings
from rookery.server.tenant_settings import Layer, TenantSettingsBook


class Told(list[tuple[str, TenantSettings]]):
    """What the engine was told; raises instead when it is busy."""

    is_busy = False

    def configure(self, tenant_id: str, settings: TenantSettings) -> None:
        if self.is_busy:
            raise EngineBusy("full")
        self.append((tenant_id, settings))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def book(told: Told) -> TenantSettingsBook:
    return TenantSettingsBook(TenantSettings(), told.configure)


def test_tenant_without_values_has_the_defaults(book: TenantSettingsBook) -> None:
    assert book.of("acme") == TenantSettings()
    assert len(book) == 0


def test_higher_layer_wins_and_lower_one_shows_where_it_is_silent(book: TenantSettingsBook) -> None:
    book.put("acme", Layer.PLUGIN, {"MaximumQoS": 0})
    book.put("acme", Layer.CONFIGURATION, {"MaximumQoS": 1, "MaxTopicLevels": 3})
    book.put("acme", Layer.DATABASE, {"MaxTopicLevels": 4})
    assert book.of("acme") == TenantSettings(maximum_qos=0, max_topic_levels=4)
    book.put("acme", Layer.PLUGIN, {})
    assert book.of("acme") == TenantSettings(maximum_qos=1, max_topic_levels=4)
    assert book.of("other") == TenantSettings()


def test_layer_that_is_put_again_replaces_what_it_said(book: TenantSettingsBook) -> None:
    book.put("acme", Layer.DATABASE, {"MaximumQoS": 0})
    book.put("acme", Layer.DATABASE, {"MaxTopicLevels": 3})
    assert book.of("acme") == TenantSettings(max_topic_levels=3)
    assert book.values("acme", Layer.DATABASE) == {"MaxTopicLevels": 3}


@pytest.mark.parametrize("values", [{"NoSuchSetting": 1}, {"MaximumQoS": 3}, {"MaximumQoS": 1, "MaxTopicLevels": "x"}])
def test_bad_values_are_refused_whole_and_the_old_ones_stay(
    book: TenantSettingsBook, told: Told, values: dict[str, int | str]
) -> None:
    book.put("acme", Layer.DATABASE, {"MaximumQoS": 0})
    with pytest.raises(SettingError):
        book.put("acme", Layer.DATABASE, values)
    assert book.of("acme") == TenantSettings(maximum_qos=0)
    assert book.values("acme", Layer.DATABASE) == {"MaximumQoS": 0}
    assert len(told) == 1


def test_engine_is_told_of_changes_only(book: TenantSettingsBook, told: Told) -> None:
    book.put("acme", Layer.DATABASE, {"MaximumQoS": 1})
    book.put("acme", Layer.PLUGIN, {"MaximumQoS": 1})
    book.put("acme", Layer.PLUGIN, {})
    assert told == [("acme", TenantSettings(maximum_qos=1))]
    book.put("acme", Layer.DATABASE, {})
    assert told[-1] == ("acme", TenantSettings())
    assert len(book) == 0


def test_nothing_changes_when_the_engine_takes_no_command(book: TenantSettingsBook, told: Told) -> None:
    told.is_busy = True
    with pytest.raises(EngineBusy):
        book.put("acme", Layer.DATABASE, {"MaximumQoS": 1})
    assert book.of("acme") == TenantSettings()
