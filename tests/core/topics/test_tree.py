"""The subscription tree finds what its plain twin finds, whatever came and went before."""

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rookery.bench.topic_loops import Texts, Watch, add_all, churn, match_all, remove_all, watch_matches
from rookery.core.topics.names import InvalidTopic
from rookery.core.topics.tree import TopicFilters
from support.plain_topics import PlainTree, is_match

SHARD_COUNT = 4
EMPTY_BYTES = 2200  # of a tree without filters, at most, its generation counters included

# Few words, so that filters share levels; one with a slash's neighbours, one too long to stand in a node of its own.
words = st.sampled_from(["a", "b", "c", "", "$s", "a.b0", "temperature-of-the-oven"])
levels = st.lists(words, min_size=1, max_size=5).map("/".join).filter(bool)
filter_levels = st.lists(st.one_of(words, st.just("+")), min_size=1, max_size=5).map("/".join).filter(bool)
topic_filters = st.one_of(
    filter_levels, filter_levels.map(lambda text: f"{text}/#"), st.sampled_from(["#", "+", "+/#", "/", "//", "/#"])
)
shards = st.integers(0, SHARD_COUNT - 1)


class TreeMachine(RuleBasedStateMachine):
    """filler_count filters that match nothing are there from the start, so that larger trees are tried as well."""

    filler_count = 0

    @initialize()
    def start(self) -> None:
        self.filters = TopicFilters()
        self.twin = PlainTree()
        self.ids: dict[str, int] = {}
        for number in range(self.filler_count):
            self.filters.add(f"filler/{number}/{number % 7}")

    @rule(topic_filter=topic_filters, shard=shards)
    def add(self, topic_filter: str, shard: int) -> None:
        filter_id = self.filters.add(topic_filter, shard)
        assert self.ids.setdefault(topic_filter, filter_id) == filter_id
        self.twin.add(topic_filter, shard)

    @rule(data=st.data(), count=st.integers(1, 20))
    def remove(self, data: st.DataObject, count: int) -> None:
        wanted = [(text, shard) for text, of_text in self.twin.shards.items() for shard in sorted(of_text)]
        if wanted:
            for text, shard in data.draw(st.lists(st.sampled_from(wanted), max_size=count, unique=True)):
                self.filters.remove(self.ids[text], shard)
                self.twin.remove(text, shard)
                if text not in self.twin.shards:
                    del self.ids[text]

    @rule(topics=st.lists(levels, max_size=5))
    def match(self, topics: list[str]) -> None:
        for topic in topics:
            assert sorted(self.filters.match(topic)) == self.twin.match(topic)

    @rule(topic_filter=topic_filters)
    def find(self, topic_filter: str) -> None:
        assert self.filters.find(topic_filter) == self.ids.get(topic_filter)

    @invariant()
    def ids_lead_to_text_and_shards(self) -> None:
        assert len(self.filters) == len(self.ids) + self.filler_count
        for text, filter_id in self.ids.items():
            assert self.filters.filter_text(filter_id) == text
            assert self.filters.shard_mask(filter_id) == self.twin.shard_mask(text)


class LargeTreeMachine(TreeMachine):
    filler_count = 400


TreeMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
LargeTreeMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestTree = TreeMachine.TestCase
TestLargeTree = LargeTreeMachine.TestCase


def filters_of(*topic_filters: str) -> TopicFilters:
    filters = TopicFilters()
    for topic_filter in topic_filters:
        filters.add(topic_filter)
    return filters


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("a", ["#", "+", "a", "a/#"]),
        ("a/", ["#", "+/+", "a/#", "a/+"]),
        ("a/b", ["#", "+/+", "a/#", "a/+"]),
        ("/", ["#", "+/+", "/", "/#", "/+"]),
        ("//", ["#", "/#", "//"]),
        ("a//b", ["#", "a/#", "a/+/b", "a//b"]),
        ("/a", ["#", "+/+", "/#", "/+"]),
        ("$s", ["$s", "$s/#"]),
        ("$s/a", ["$s/#", "$s/+"]),
        ("a/$s", ["#", "+/+", "a/#", "a/+"]),
    ],
)
def test_wildcards_match_as_the_standard_says(topic: str, expected: list[str]) -> None:
    filters = filters_of(
        *("#", "+", "+/+", "a", "a/#", "a/+", "a/+/b", "a//b"),
        *("/", "/#", "/+", "//", "$s", "$s/#", "$s/+", "$other/#"),
    )
    assert sorted(filters.match(topic)) == sorted(expected)


def test_leading_wildcard_does_not_match_dollar() -> None:  # [MQTT-4.7.2-1]
    filters = filters_of("#", "+", "+/#", "+/clients", "/#", "$SYS/#", "$SYS/+")
    assert sorted(filters.match("$SYS/clients")) == ["$SYS/#", "$SYS/+"]


def test_multi_level_wildcard_includes_the_parent_level() -> None:  # 4.7.1.2
    assert filters_of("sport/#").match("sport") == ["sport/#"]


def test_every_filter_that_matches_comes_once() -> None:
    patterns = ["/".join("+" if bits >> level & 1 else "a" for level in range(10)) for bits in range(2**10)]
    assert sorted(filters_of(*patterns).match("/".join("a" * 10))) == sorted(patterns)


@pytest.mark.parametrize("level_count", [2, 9, 128, 65535])
def test_deep_topics_and_filters_are_walked_without_recursion(level_count: int) -> None:
    empty_levels = "/" * (level_count - 1)
    filters = filters_of("#", "+/#", empty_levels)
    deepest = filters.add("+/" * (level_count // 2 - 1) + "#")
    assert sorted(filters.match(empty_levels)) == sorted({"#", "+/#", empty_levels, filters.filter_text(deepest)})
    assert filters.match("a" + empty_levels[1:]) is not None
    filters.remove(deepest)
    assert filters.find(empty_levels) is not None


def test_filter_text_is_told_as_it_was_added() -> None:
    texts = ["/", "//", "+", "#", "a", "a/", "/a", "+/+/#", "$SYS/#", "é/ü", "x" * 18, "x" * 19, "y/" + "z" * 60000]
    filters = TopicFilters()
    assert [filters.filter_text(filters.add(text)) for text in texts] == texts


@given(shard_list=st.lists(st.integers(0, 63), min_size=1, unique=True))
def test_filter_stays_until_the_last_shard_leaves(shard_list: list[int]) -> None:
    filters = TopicFilters()
    filter_id = filters.add("a/+", shard_list[0])
    assert {filters.add("a/+", shard) for shard in shard_list} == {filter_id}
    for index, shard in enumerate(shard_list):
        assert filters.match("a/b") == ["a/+"]
        assert filters.shard_mask(filter_id) == sum(1 << other for other in shard_list[index:])
        filters.remove(filter_id, shard)
    assert filters.match("a/b") == []
    assert len(filters) == 0


@pytest.mark.parametrize("text", ["", "a+", "#/a", "a\0", "$share/g/a/#/b"])
def test_filter_that_is_not_well_formed_is_refused(text: str) -> None:
    filters = TopicFilters()
    with pytest.raises(InvalidTopic):
        filters.add(text)
    assert len(filters) == 0


def test_unknown_ids_and_shards_are_refused() -> None:
    filters = TopicFilters()
    filter_id = filters.add("a", 1)
    for wrong in (0, 1, filter_id + 1, 2**32 - 1):
        with pytest.raises(KeyError):
            filters.remove(wrong, 1)
        with pytest.raises(KeyError):
            filters.filter_text(wrong)
    with pytest.raises(KeyError):
        filters.remove(filter_id, 0)
    with pytest.raises(IndexError):
        filters.add("a", 64)
    assert filters.match("a") == ["a"]


@pytest.mark.parametrize("count", [1, 20, 200, 5000])
def test_removal_gives_the_memory_back(count: int) -> None:
    generator = random.Random(3)
    filters = TopicFilters()
    for _ in range(3):
        texts = [f"site/{number % 11}/+/sensor-with-a-long-name-{number}/#" for number in range(count)]
        ids = add_all(filters, Texts(texts))
        assert match_all(filters, Texts([text.replace("+", "x").replace("#", "y") for text in texts])) == count
        generator.shuffle(ids)
        remove_all(filters, ids)
        assert len(filters) == 0
        assert filters.memory_bytes <= EMPTY_BYTES


@pytest.mark.parametrize("pattern", ["devices/{}/commands", "site/3/device/{}", "{}/#", "group{}/+/state"])
def test_tenant_with_twenty_filters_costs_less_than_four_kibibytes(pattern: str) -> None:
    filters = filters_of(*(pattern.format(number) for number in range(20)))
    assert filters.memory_bytes < 4096


@settings(deadline=None, max_examples=200)
@given(before=st.sets(topic_filters, max_size=10), changed=topic_filters, topics=st.lists(levels, max_size=5))
@pytest.mark.parametrize("filler_count", [0, 127, 200])  # 128 is where a tree gets many counters
def test_generation_grows_when_a_filter_comes_or_goes_that_matches(
    filler_count: int, before: set[str], changed: str, topics: list[str]
) -> None:
    filters = filters_of(*(f"filler/{number}" for number in range(filler_count)), *(before - {changed}))
    stamps = [filters.generation(topic) for topic in topics]
    filter_id = filters.add(changed)
    after = [filters.generation(topic) for topic in topics]
    filters.remove(filter_id)
    last = [filters.generation(topic) for topic in topics]
    for topic, *of_topic in zip(topics, stamps, after, last, strict=True):
        assert of_topic == sorted(of_topic)
        if is_match(changed, topic):
            assert len(set(of_topic)) == 3


@pytest.mark.parametrize("size", range(55, 75))
@pytest.mark.parametrize("ending", ["", "/#", "/+", "/b", "/b/c", "/+/c", "/b/#"])
def test_generation_grows_for_levels_as_long_as_what_is_looked_at(size: int, ending: str) -> None:
    filters = filters_of(*(f"filler/{number}" for number in range(200)))
    topic = "a" * size + ending.replace("#", "c").replace("+", "bcdefghijk")
    stamp = filters.generation(topic)
    filter_id = filters.add("a" * size + ending)
    assert filters.match(topic) == ["a" * size + ending]
    assert filters.generation(topic) > stamp
    stamp = filters.generation(topic)
    filters.remove(filter_id)
    assert filters.generation(topic) > stamp


def test_generation_stays_when_only_other_places_change() -> None:
    filters = filters_of(*(f"filler/{number}" for number in range(200)))
    topics = [f"site/{number}/temperature" for number in range(100)]
    stamps = [filters.generation(topic) for topic in topics]
    filters.remove(filters.add("site/5/humidity"))
    filters.remove(filters.add("shop/+/temperature"))
    unchanged = sum(filters.generation(topic) == stamp for topic, stamp in zip(topics, stamps, strict=True))
    assert 90 <= unchanged < 100


def test_generation_stays_when_another_shard_joins() -> None:
    filters = filters_of("a/b")
    stamp = filters.generation("a/b")
    filter_id = filters.add("a/b", 1)
    filters.remove(filter_id, 0)
    assert filters.generation("a/b") == stamp


@pytest.mark.parametrize("topic_limit", [5, 1000])
def test_readers_miss_no_filter_that_stays_while_others_come_and_go(topic_limit: int) -> None:
    generator = random.Random(topic_limit)
    words = ["a", "b", "c", "", "level-that-needs-a-block-of-its-own"]
    reader_count, burst_count, burst_size = 2, 100, 300

    def random_filter() -> str:
        of_filter = [generator.choice([*words, "+"]) for _ in range(generator.randint(2, 5))]
        return "/".join([*of_filter, "#"] if generator.random() < 0.2 else of_filter)

    stable = sorted({random_filter() for _ in range(60)})
    # Enough passing filters that both tables move while they come and go; a third shares its levels with the stable.
    passing = sorted(
        ({random_filter() for _ in range(2000)} | {f"a/{number}/{number % 97}" for number in range(4000)}) - set(stable)
    )
    topics = ["/".join(generator.choice(words) for _ in range(generator.randint(2, 6))) for _ in range(50)]
    topics += [f"a/{number}/{number % 97}" for number in range(0, 4000, 100)]
    filters = TopicFilters(reader_count=reader_count)
    ids = add_all(filters, Texts(stable))
    expected = [
        [filter_id for filter_id, text in zip(ids, stable, strict=True) if is_match(text, topic)] for topic in topics
    ]
    watch = Watch(reader_count)
    readers = [
        threading.Thread(target=watch_matches, args=(watch, filters, number, Texts(topics), expected, topic_limit))
        for number in range(1, reader_count + 1)
    ]
    for reader in readers:
        reader.start()
    try:
        churn(filters, Texts(passing), 100_000, seed=0, shard=3)
        for burst in range(1, burst_count):
            churn(filters, Texts(passing), burst_size, seed=burst, shard=3)
            watch.settle()
    finally:
        watch.stop()
        for reader in readers:
            reader.join()
    assert watch.match_count > 0
    assert (watch.miss_count, watch.wrong_count, watch.stale_count, watch.failure_count) == (0, 0, 0, 0)
    assert len(filters) == len(stable)
    remove_all(filters, ids)
    assert filters.memory_bytes <= EMPTY_BYTES
