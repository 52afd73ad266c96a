"""The retained tree stores and matches what a dict and ten slow lines do, and a walk survives every change."""

import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from rookery.core.topics.retained import RetainedMatches, RetainedTopics

EMPTY_TREE_BYTES = 2_048


def is_match(topic: str, topic_filter: str) -> bool:
    """The plain twin of the walk [MQTT5 4.7]."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    levels = topic.split("/")
    for index, wanted in enumerate(topic_filter.split("/")):
        if wanted == "#":
            return True
        if index == len(levels) or wanted not in ("+", levels[index]):
            return topic_filter.split("/")[index:] == ["#"]
    return len(levels) == topic_filter.count("/") + 1


def take_all(matches: RetainedMatches, limit: int = 100, node_limit: int = 100) -> list[int]:
    values: list[int] = []
    while not matches.is_done:
        values += matches.take(limit, node_limit)
    return values


LONG_LEVEL = "0b5e3f0c-6f1c-4a52-9d61-1f7b2d9c3a44"  # longer than what a node holds
levels = st.sampled_from(["", "a", "b", "c", "$x", "exactly14bytes", "exactly-15bytes", LONG_LEVEL])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
topic_filters = st.builds(
    lambda parts, is_multi: "/".join([*parts, "#"] if is_multi else parts),
    st.lists(st.one_of(levels, st.just("+")), max_size=4),
    st.booleans(),
).filter(bool)


@given(st.sets(topics, max_size=40), topic_filters, st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=500, deadline=None)
def test_walk_finds_what_matches(stored: set[str], topic_filter: str, limit: int, node_limit: int) -> None:
    tree = RetainedTopics()
    value_of = {topic: number for number, topic in enumerate(sorted(stored), 1)}
    for topic, value in value_of.items():
        tree.set(topic, value)
    expected = [value for topic, value in value_of.items() if is_match(topic, topic_filter)]
    assert sorted(take_all(tree.match(topic_filter), limit, node_limit)) == expected
    assert sorted(take_all(tree.match_all(), limit, node_limit)) == sorted(value_of.values())


class OpenWalk:
    """What is known of a walk: what it must still bring, and what it must not bring again."""

    def __init__(self, matches: RetainedMatches, topic_filter: str | None, stored: dict[str, int]) -> None:
        self.matches = matches
        self.topic_filter = topic_filter
        self.present_throughout = {topic for topic in stored if self.wants(topic)}
        self.seen: set[str] = set()

    def wants(self, topic: str) -> bool:
        return self.topic_filter is None or is_match(topic, self.topic_filter)


class RetainedMachine(RuleBasedStateMachine):
    """Topics come, change and go while several walks are under way."""

    walks = Bundle("walks")

    def __init__(self) -> None:
        super().__init__()
        self.tree = RetainedTopics()
        self.stored: dict[str, int] = {}
        self.topic_of: dict[int, str] = {}  # every value is used once
        self.open_walks: list[OpenWalk] = []

    @rule(topic=topics)
    def set(self, topic: str) -> None:
        value = len(self.topic_of) + 1
        self.topic_of[value] = topic
        assert self.tree.set(topic, value) == self.stored.get(topic)
        self.stored[topic] = value

    @rule(topic=topics)
    def remove(self, topic: str) -> None:
        assert self.tree.remove(topic) == self.stored.pop(topic, None)
        for walk in self.open_walks:
            walk.present_throughout.discard(topic)

    @rule(start=st.integers(0, 200), modulus=st.integers(1, 4))
    def remove_some(self, start: int, modulus: int) -> None:
        for topic in sorted(self.stored)[start % 5 :: modulus]:
            self.remove(topic)

    @rule(topic=topics)
    def get(self, topic: str) -> None:
        assert self.tree.get(topic) == self.stored.get(topic)

    @rule(target=walks, topic_filter=st.one_of(topic_filters, st.sampled_from(["#", "+/#", "+/+", "a/#"])))
    def open(self, topic_filter: str) -> OpenWalk:
        walk = OpenWalk(self.tree.match(topic_filter), topic_filter, self.stored)
        self.open_walks.append(walk)
        return walk

    @rule(target=walks)
    def open_over_all(self) -> OpenWalk:
        walk = OpenWalk(self.tree.match_all(), None, self.stored)
        self.open_walks.append(walk)
        return walk

    @rule(walk=walks, limit=st.integers(1, 4), node_limit=st.integers(1, 6))
    def go_on(self, walk: OpenWalk, limit: int, node_limit: int) -> None:
        values = walk.matches.take(limit, node_limit)
        assert len(values) <= limit
        for value in values:
            topic = self.topic_of[value]
            assert self.stored.get(topic) == value, "what comes is what is stored now"
            assert walk.wants(topic)
            assert topic not in walk.seen, "nothing comes twice"
            walk.seen.add(topic)
        if walk.matches.is_done:
            assert walk.present_throughout <= walk.seen, "what was there throughout has come"

    @rule(walk=consumes(walks))
    def leave(self, walk: OpenWalk) -> None:
        self.open_walks.remove(walk)
        del walk.matches

    @invariant()
    def it_counts_what_the_dict_counts(self) -> None:
        assert len(self.tree) == len(self.stored)

    @invariant()
    def only_open_walks_keep_nodes_without_need(self) -> None:
        prefixes = {tuple(topic.split("/")[:depth]) for topic in self.stored for depth in range(1, 5)}
        # A walk pins one node, and with it at most the three above it.
        assert len(prefixes) <= self.tree.node_count <= len(prefixes) + 4 * len(self.open_walks)

    def teardown(self) -> None:
        for topic in self.stored:
            self.tree.remove(topic)
        for walk in self.open_walks:
            del walk.matches
        assert self.tree.node_count == 0


RetainedMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestRetainedTreeAgainstItsTwin = RetainedMachine.TestCase


def tree_of(*stored: str) -> RetainedTopics:
    """The topics under the values 1, 2, 3, ..."""
    tree = RetainedTopics()
    for value, topic in enumerate(stored, 1):
        tree.set(topic, value)
    return tree


@pytest.mark.parametrize(
    ("topic_filter", "expected"),
    [
        ("#", [1, 2, 3, 4, 5]),
        ("+", [4]),
        ("+/+", [1, 5]),
        ("/#", [5]),
        ("sport/#", [1, 2, 3, 4]),
        ("sport/tennis/#", [1, 2, 3]),
        ("sport/tennis", [1]),
        ("sport/+/+", [2, 3]),
        ("sport/+/player1", [2]),
        ("+/tennis/#", [1, 2, 3]),
        ("sport/+/player1/#", [2]),
        ("tennis", []),
        ("$SYS/#", [6, 7, 8]),
        ("$SYS/+", [7]),
        ("$SYS/monitor/+", [8]),
        ("+/monitor/+", []),
    ],
)
def test_wildcards_as_the_standard_explains_them(topic_filter: str, expected: list[int]) -> None:
    tree = tree_of(
        "sport/tennis",
        "sport/tennis/player1",
        "sport/tennis/player2",
        "sport",
        "/finance",
        "$SYS",
        "$SYS/monitor",
        "$SYS/monitor/Clients",
    )
    assert sorted(take_all(tree.match(topic_filter))) == expected


def test_leading_wildcard_does_not_match_topics_that_begin_with_dollar() -> None:
    """[MQTT-4.7.2-1]"""
    tree = tree_of("$SYS/uptime", "a/$SYS")
    assert take_all(tree.match("#")) == [2]
    assert take_all(tree.match("+/uptime")) == []
    assert take_all(tree.match("a/+")) == [2]


def test_multi_level_wildcard_includes_its_parent() -> None:
    assert take_all(tree_of("a").match("a/#")) == [1]


def test_setting_again_replaces_and_hands_back_the_previous_value() -> None:
    tree = RetainedTopics()
    assert tree.set("a/b", 1) is None
    assert tree.set("a/b", 2) == 1
    assert tree.get("a/b") == 2
    assert len(tree) == 1


def test_topic_above_a_stored_one_holds_nothing() -> None:
    tree = tree_of("a/b/c")
    assert tree.get("a/b") is None
    assert tree.remove("a/b") is None
    assert tree.get("a/b/c") == 1


def test_removed_topic_takes_along_only_the_levels_that_no_other_needs() -> None:
    tree = tree_of("a/b/c/d", "a/b")
    assert tree.node_count == 4
    assert tree.remove("a/b/c/d") == 1
    assert tree.node_count == 2
    assert tree.get("a/b") == 2
    assert tree.remove("a/b") == 2
    assert tree.node_count == 0


def test_empty_levels_are_levels() -> None:
    tree = tree_of("/", "//", "a/", "/a")
    assert [tree.get(topic) for topic in ("/", "//", "a/", "/a")] == [1, 2, 3, 4]
    assert sorted(take_all(tree.match("+/+"))) == [1, 3, 4]
    assert sorted(take_all(tree.match("/+"))) == [1, 4]
    assert take_all(tree.match("///")) == []


def test_longest_topics_are_stored() -> None:
    most_levels = "/" * 65_535
    longest_level = "x" * 65_535
    tree = tree_of(most_levels, longest_level)
    assert tree.node_count == 65_537
    assert tree.get(most_levels) == 1
    assert tree.get(longest_level) == 2
    assert take_all(tree.match(longest_level)) == [2]
    assert sorted(take_all(tree.match("#"))) == [1, 2]
    assert tree.remove(most_levels) == 1
    assert tree.remove(longest_level) == 2
    assert tree.node_count == 0


def test_message_that_is_removed_and_set_again_under_a_walk_comes_at_most_once() -> None:
    tree = tree_of("a", "b", "c")
    matches = tree.match("#")
    first = matches.take(1)
    topic = ("a", "b", "c")[first[0] - 1]
    tree.remove(topic)  # The walk rests here.
    tree.set(topic, 9)
    assert sorted(first + take_all(matches)) == [1, 2, 3]


def test_walk_goes_on_when_all_around_it_has_gone() -> None:
    tree = tree_of(*(f"a/{number}/c" for number in range(100)), "z")
    matches = tree.match("#")
    matches.take(10, 30)
    for number in range(100):
        tree.remove(f"a/{number}/c")
    rest = take_all(matches)
    assert rest in ([101], [])
    assert tree.node_count == 1
    assert tree.get("z") == 101


def test_several_walks_rest_on_one_node() -> None:
    tree = tree_of("a/b")
    walks = [tree.match("a/#") for _ in range(3)]
    for walk in walks:
        assert walk.take(1) == [1]
    tree.remove("a/b")
    assert tree.node_count == 2
    while walks:
        assert tree.node_count == 2
        assert walks.pop().take(1) == []
    assert tree.node_count == 0


def test_walk_that_is_left_early_keeps_nothing() -> None:
    tree = tree_of("a/b/c")
    matches = tree.match("a/+/c")
    matches.take(1, 2)
    tree.remove("a/b/c")
    assert tree.node_count == 2
    del matches
    assert tree.node_count == 0


def test_walk_outlives_the_name_of_its_tree() -> None:
    matches = tree_of("a", "b").match("#")
    assert sorted(take_all(matches)) == [1, 2]


def test_walk_that_is_over_stays_over() -> None:
    tree = tree_of("a")
    matches = tree.match("#")
    assert take_all(matches) == [1]
    tree.set("b", 2)
    assert matches.take(10) == []
    assert matches.is_done


def test_call_looks_at_no_more_nodes_than_its_limit() -> None:
    tree = tree_of(*(f"{number}/x/y" for number in range(1_000)))
    # Nothing matches, yet every first level is looked at, and below it the level that is missing.
    matches = tree.match("+/other/+")
    calls = 0
    while not matches.is_done:
        assert matches.take(10, 50) == []
        calls += 1
    assert calls >= 2_000 // 51
    # A topic without wildcards is found at once, however many there are.
    matches = tree.match("999/x/y")
    assert matches.take(10, 4) == [1_000]


def test_limits_of_a_call_are_at_least_one() -> None:
    matches = tree_of("a").match("#")
    for limit, node_limit in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="limits are at least 1"):
            matches.take(limit, node_limit)
    with pytest.raises(ValueError, match="0 is no value"):
        RetainedTopics().set("a", 0)


def test_hash_key_does_not_show() -> None:
    keys = [bytes(16), bytes(range(16)), b"\xff" * 16]
    trees = [RetainedTopics(key) for key in keys]
    for tree in trees:
        for number in range(1, 3_000):
            tree.set(f"{number % 7}/{number % 31}/{number}", number)
    walks = [take_all(tree.match("+/5/#"), 1_000, 10_000) for tree in trees]
    assert walks[0] == walks[1] == walks[2]
    assert sorted(walks[0]) == [number for number in range(1, 3_000) if number % 31 == 5]


def test_table_grows_and_shrinks_without_losing_anything() -> None:
    random_source = random.Random(7)
    tree = RetainedTopics()
    stored: dict[str, int] = {}
    for growing in (True, False, True, False):
        for value in range(1, 20_001):
            topic = f"site/{random_source.randrange(40)}/{random_source.randrange(2_000)}"
            if growing or random_source.random() < 0.1:
                assert tree.set(topic, value) == stored.get(topic)
                stored[topic] = value
            else:
                topic = next(iter(stored), topic)
                assert tree.remove(topic) == stored.pop(topic, None)
        assert len(tree) == len(stored)
        assert sorted(take_all(tree.match("#"), 1_000, 10_000)) == sorted(stored.values())
        assert all(tree.get(topic) == value for topic, value in stored.items())


def test_memory_follows_the_number_of_topics() -> None:
    tree = RetainedTopics()
    assert tree.memory_bytes < EMPTY_TREE_BYTES
    # Four levels, 25 bytes, as a fleet of devices would use them: every device and its measure are one's own.
    names = [f"site{number % 50:02}/line{number % 400:03}/d{number:06}/temp" for number in range(50_000)]
    assert {len(name) for name in names} == {27}
    for value, name in enumerate(names, 1):
        tree.set(name, value)
    assert tree.memory_bytes / len(names) < 120
    full = tree.memory_bytes
    for name in names[:49_000]:
        tree.remove(name)
    assert tree.memory_bytes < full
    for name in names[49_000:]:
        tree.remove(name)
    assert tree.memory_bytes < EMPTY_TREE_BYTES


FILL_UNTIL_MEMORY_IS_SHORT = """
import resource
from pathlib import Path
from rookery.core.topics.retained import RetainedTopics

names = [f"{number}/b/c/d/{'x' * 20_000}" for number in range(2_000)]
tree = RetainedTopics()
allowed = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 2**22
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (allowed, before[1]))
stored = []
try:
    for name in names:
        tree.set(name, 1)
        stored.append(name)
except MemoryError:
    pass
resource.setrlimit(resource.RLIMIT_AS, before)
assert 0 < len(stored) < len(names), len(stored)
assert len(tree) == len(stored)
assert tree.node_count == 5 * len(stored), "the levels of the topic that failed have gone"
assert all(tree.remove(name) == 1 for name in stored)
assert tree.node_count == 0
"""


def test_topic_for_which_memory_is_short_leaves_the_tree_as_it_was() -> None:
    ended = subprocess.run([sys.executable, "-c", FILL_UNTIL_MEMORY_IS_SHORT], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
