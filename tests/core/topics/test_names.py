"""What is a topic name, what is a topic filter, and what the error says about those that are neither."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rookery.core.topics.names import InvalidTopic, ParsedTopicFilter, TopicRules

LIMITS = {"topic_size_maximum": 40, "level_count_maximum": 6, "level_size_maximum": 10}
RULES = TopicRules(**LIMITS)
SHARES = ("$share", "$oshare")
texts = st.one_of(
    st.text(st.sampled_from("ab/+#$\0é"), max_size=50),
    st.lists(st.sampled_from(["", "a", "+", "#", "$share", "$oshare", "$sys", "level"]), max_size=9).map("/".join),
    st.text(st.sampled_from("abcdefg/"), min_size=20, max_size=60),
)


def is_within_limits(text: str) -> bool:
    levels = text.encode().split(b"/")
    return (
        0 < len(text.encode()) <= LIMITS["topic_size_maximum"]
        and len(levels) <= LIMITS["level_count_maximum"]
        and max(map(len, levels)) <= LIMITS["level_size_maximum"]
    )


def is_topic(text: str) -> bool:
    return is_within_limits(text) and not set(text) & set("+#\0") and text.split("/")[0] not in SHARES


def parse_twin(text: str) -> ParsedTopicFilter | None:
    share, name, inner = None, None, text
    if text.split("/")[0] in SHARES:
        if text.count("/") < 2:
            return None
        share, name, inner = text.split("/", 2)
        if not name or set(name) & set("+#\0") or inner.split("/")[0] in SHARES:
            return None
    levels = inner.split("/")
    misplaced = any(set(level) & set("+#") and level not in ("+", "#") for level in levels) or "#" in levels[:-1]
    if misplaced or "\0" in inner or not is_within_limits(inner):
        return None
    return ParsedTopicFilter(inner, name, share == "$oshare", "+" in levels or "#" in levels)


@given(text=texts)
@example("a" * 8)
@example("abcdefg/+")
@example("abcdefgh\0")
@example("$share")
def test_topic_is_taken_when_the_twin_takes_it(text: str) -> None:
    if is_topic(text):
        assert RULES.check_topic(text) == text.encode()
    else:
        with pytest.raises(InvalidTopic):
            RULES.check_topic(text)


@given(text=texts)
@example("+#")
@example("$share/a/")
@example("$share//a")
@example("$oshare/a//")
def test_topic_filter_is_parsed_as_by_the_twin(text: str) -> None:
    expected = parse_twin(text)
    if expected is not None:
        assert RULES.parse_topic_filter(text) == expected
    else:
        with pytest.raises(InvalidTopic):
            RULES.parse_topic_filter(text)


@given(place=st.integers(0, 30), size=st.integers(1, 31), wrong=st.sampled_from("+#\0"))
def test_one_wrong_character_is_found_wherever_it_stands(place: int, size: int, wrong: str) -> None:
    # The neighbours of the wrong characters, and of the slash, in the table of characters.
    text = (',*$"!./0\x01\x7f' * 4)[:size]
    topic = text[:place] + wrong + text[place:]
    rules = TopicRules()
    rules.check_topic(text)
    with pytest.raises(InvalidTopic):
        rules.check_topic(topic)


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("", "the topic is empty"),
        ("a" * 41, "topic has 41 bytes, the limit is 40"),
        ("é" * 21, "topic has 42 bytes, the limit is 40"),
        ("a/b/c/d/e/f/g", "topic has 7 levels, the limit is 6"),
        ("a/bcdefghijkl/c", "topic has a level of 11 bytes, the limit is 10"),
        ("a/+", "a topic name has no wildcards"),
        ("a\0", "the topic has a NUL character"),
        ("$share/g/a", "a shared subscription is $share/{share_name}/{topic_filter}"),
        ("a\ud800", "the topic has a surrogate at character 1"),
    ],
)
def test_error_names_value_and_limit(topic: str, message: str) -> None:
    with pytest.raises(InvalidTopic) as caught:
        RULES.check_topic(topic)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("topic_filter", "message"),
    [
        ("", "the topic is empty"),
        ("a+", "a wildcard fills a whole level, and # is the last one"),
        ("#/a", "a wildcard fills a whole level, and # is the last one"),
        ("$share/g", "a shared subscription is $share/{share_name}/{topic_filter}"),
        ("$share/g+/a", "a shared subscription is $share/{share_name}/{topic_filter}"),
        ("$share/g/$share/h/a", "a shared subscription is $share/{share_name}/{topic_filter}"),
        ("$share/group/a/b/c/d/e/f/g", "topic has 7 levels, the limit is 6"),
    ],
)
def test_error_of_a_topic_filter_names_value_and_limit(topic_filter: str, message: str) -> None:
    with pytest.raises(InvalidTopic) as caught:
        RULES.parse_topic_filter(topic_filter)
    assert str(caught.value) == message


def test_share_prefix_does_not_count_for_the_limits() -> None:
    parsed = RULES.parse_topic_filter("$share/" + "g" * 40 + "/a/b/c/d/e/#")
    assert parsed == ParsedTopicFilter("a/b/c/d/e/#", "g" * 40, is_ordered=False, has_wildcard=True)


def test_first_level_that_only_begins_like_a_share_is_an_ordinary_one() -> None:
    assert RULES.parse_topic_filter("$shared/g/a").share_name is None
    assert RULES.check_topic("$shared/a") == b"$shared/a"


def test_limits_of_the_standard_are_the_default() -> None:
    rules = TopicRules(level_count_maximum=65535)
    assert rules.check_topic("/" * 65534) == b"/" * 65534
    with pytest.raises(InvalidTopic, match="65536 bytes, the limit is 65535"):
        rules.check_topic("a" * 65536)
