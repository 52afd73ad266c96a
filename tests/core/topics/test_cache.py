"""The match cache answers what the tree answers, keeps what comes often, and stays within its bounds."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from rookery.bench.topic_loops import Texts, add_all, match_all_cached, remove_all
from rookery.core.topics.cache import TopicMatcher
from rookery.core.topics.tree import TopicFilters
from support.plain_topics import PlainTree

words = st.sampled_from(["a", "b", "", "$s"])
topics = st.lists(words, min_size=1, max_size=3).map("/".join).filter(bool)
topic_filters = st.one_of(
    st.lists(st.one_of(words, st.just("+")), min_size=1, max_size=3).map("/".join).filter(bool),
    st.lists(st.one_of(words, st.just("+")), max_size=2).map(lambda levels: "/".join([*levels, "#"])),
)


class CacheMachine(RuleBasedStateMachine):
    """Two tenants behind each of several caches, from one that holds a single topic to one that holds all."""

    @initialize(is_large=st.booleans())
    def start(self, is_large: bool) -> None:
        self.tenants = [TopicFilters(), TopicFilters()]
        self.twins = [PlainTree(), PlainTree()]
        self.matchers = [TopicMatcher(self.tenants[0], limit) for limit in (1, 3, 1000)]
        for number in range(200 * is_large):
            self.tenants[0].add(f"filler/{number}")

    @rule(tenant=st.integers(0, 1), topic_filter=topic_filters, shard=st.integers(0, 2))
    def add(self, tenant: int, topic_filter: str, shard: int) -> None:
        self.tenants[tenant].add(topic_filter, shard)
        self.twins[tenant].add(topic_filter, shard)

    @rule(tenant=st.integers(0, 1), data=st.data())
    def remove(self, tenant: int, data: st.DataObject) -> None:
        wanted = [(text, shard) for text, of_text in self.twins[tenant].shards.items() for shard in sorted(of_text)]
        if wanted:
            text, shard = data.draw(st.sampled_from(wanted))
            filter_id = self.tenants[tenant].find(text)
            assert filter_id is not None
            self.tenants[tenant].remove(filter_id, shard)
            self.twins[tenant].remove(text, shard)

    @rule(tenant=st.integers(0, 1), topics=st.lists(topics, max_size=8))
    def match(self, tenant: int, topics: list[str]) -> None:
        for matcher in self.matchers:
            matcher.switch(self.tenants[tenant])
            for topic in topics:
                assert sorted(matcher.match(topic)) == self.twins[tenant].match(topic)

    @rule(rounds=st.integers(1, 3))
    def relax(self, rounds: int) -> None:
        for matcher in self.matchers:
            matcher.relax(rounds)

    @rule(tenant=st.integers(0, 1))
    def replace_tenant(self, tenant: int) -> None:
        """The next tree is likely to come to lie at the same address; nobody tells the caches."""
        self.matchers[0].switch(self.tenants[1 - tenant])
        for matcher in self.matchers:
            matcher.switch(self.tenants[1 - tenant])
        self.tenants[tenant] = TopicFilters()
        self.twins[tenant] = PlainTree()


CacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCache = CacheMachine.TestCase


def test_topic_that_comes_again_is_not_matched_again() -> None:
    filters = TopicFilters()
    filters.add("a/+")
    matcher = TopicMatcher(filters)
    for _ in range(10):
        assert matcher.match("a/b") == ["a/+"]
        assert matcher.match("b") == []
    assert matcher.statistics()["hits"] == 18
    assert matcher.statistics()["misses"] == 2


def test_shard_that_joins_or_leaves_an_existing_filter_invalidates_nothing() -> None:
    filters = TopicFilters()
    filter_id = filters.add("a/+", 0)
    matcher = TopicMatcher(filters)
    matcher.match("a/b")
    filters.add("a/+", 1)
    filters.remove(filter_id, 0)
    assert matcher.match("a/b") == ["a/+"]
    assert matcher.statistics()["misses"] == 1


def test_filter_that_comes_or_goes_is_noticed() -> None:
    filters = TopicFilters()
    matcher = TopicMatcher(filters)
    assert matcher.match("a/b") == []
    filter_id = filters.add("a/#")
    assert matcher.match("a/b") == ["a/#"]
    filters.remove(filter_id)
    assert matcher.match("a/b") == []
    assert matcher.statistics()["entry_count"] == 1


def test_entry_of_a_freed_tree_is_not_believed_by_one_at_the_same_address() -> None:
    filters = TopicFilters()
    filters.add("a/b")
    matcher = TopicMatcher(filters)
    for _ in range(20):
        assert matcher.match("a/b") == ["a/b"]
        matcher.switch(TopicFilters())
        del filters
        filters = TopicFilters()
        filters.add("b/a")
        filters.remove(filters.add("a/b"))
        matcher.switch(filters)
        assert matcher.match("a/b") == []
        filters.add("a/b")


def test_topics_that_come_often_survive_those_that_come_once() -> None:
    filters = TopicFilters()
    filters.add("often/+")
    matcher = TopicMatcher(filters, topic_limit=100)
    often = [f"often/{number}" for number in range(50)]
    once = iter(range(100_000))
    for _ in range(2):
        for topic in often:
            matcher.match(topic)
    for _ in range(100):
        for _ in range(40):  # Fewer than the other places, so that the hand goes round less than once.
            matcher.match(f"once/{next(once)}")
        before = matcher.statistics()["hits"]
        for topic in often:
            matcher.match(topic)
        assert matcher.statistics()["hits"] - before == len(often)
    assert matcher.statistics()["entry_count"] == 100
    assert matcher.statistics()["evictions"] > 3_000


def test_topics_that_come_now_displace_those_that_came_before() -> None:
    matcher = TopicMatcher(TopicFilters(), topic_limit=100)
    for period in range(5):
        topics = [f"{period}/{number}" for number in range(80)]
        for _ in range(10):
            before = matcher.statistics()["hits"]
            for topic in topics:
                matcher.match(topic)
        assert matcher.statistics()["hits"] - before == len(topics)


def test_topics_that_come_no_more_leave_a_cache_that_relaxes() -> None:
    matcher = TopicMatcher(TopicFilters())
    empty = matcher.statistics()["memory_bytes"]
    for number in range(1000):
        matcher.match(f"a/{number}")
    dropped = 0
    for _ in range(10):
        for number in range(100):
            matcher.match(f"a/{number}")
        dropped += matcher.relax(10)
    assert dropped == 900
    assert matcher.statistics()["entry_count"] == 100
    before = matcher.statistics()["hits"]
    for number in range(100):
        assert matcher.match(f"a/{number}") == []
    assert matcher.statistics()["hits"] - before == 100
    assert sum(matcher.relax(10) for _ in range(20)) == 100
    assert matcher.statistics()["memory_bytes"] < empty + 1024  # the scratch of a match


def test_few_topics_of_many_go_too_because_they_would_keep_the_memory_of_all() -> None:
    filters = TopicFilters()
    filters.add("a/+")
    matcher = TopicMatcher(filters)
    for number in range(1000):
        matcher.match(f"a/{number}")
    for _ in range(2):
        matcher.match("a/999")
        matcher.relax(1)
    assert matcher.statistics()["entry_count"] == 0
    for number in range(1000):
        assert matcher.match(f"a/{number}") == ["a/+"]
    assert matcher.statistics()["entry_count"] == 1000


def test_forgetting_a_tree_leaves_the_others() -> None:
    one, other = TopicFilters(), TopicFilters()
    matcher = TopicMatcher(one)
    for filters in (one, other):
        matcher.switch(filters)
        for number in range(100):
            matcher.match(f"a/{number}")
    matcher.switch(one)
    matcher.forget()
    assert matcher.statistics()["entry_count"] == 100
    matcher.switch(other)
    before = matcher.statistics()["hits"]
    for number in range(100):
        matcher.match(f"a/{number}")
    assert matcher.statistics()["hits"] - before == 100


def test_memory_stays_bounded_when_every_topic_has_many_filters() -> None:
    filters = TopicFilters()
    patterns = ["/".join("+" if bits >> level & 1 else "a" for level in range(10)) for bits in range(2**10)]
    ids = add_all(filters, Texts([f"{pattern}/#" for pattern in patterns]))
    matcher = TopicMatcher(filters, topic_limit=1000)
    topics = Texts([f"a/a/a/a/a/a/a/a/a/a/{number}" for number in range(1000)])
    assert match_all_cached(matcher, topics, rounds=3) == 3 * 1000 * 1024
    statistics = matcher.statistics()
    assert statistics["memory_bytes"] < 1000 * (256 + 64 + 16) + 65536
    assert 0 < statistics["entry_count"] < 100
    remove_all(filters, ids)
    assert match_all_cached(matcher, topics) == 0
    assert matcher.statistics()["entry_count"] > statistics["entry_count"]


def test_match_too_large_to_keep_is_answered_all_the_same() -> None:
    filters = TopicFilters()
    patterns = ["/".join("+" if bits >> level & 1 else "a" for level in range(12)) for bits in range(2**12)]
    add_all(filters, Texts(patterns))
    matcher = TopicMatcher(filters, topic_limit=4)
    for _ in range(3):
        assert sorted(matcher.match("/".join("a" * 12))) == sorted(patterns)
    assert matcher.statistics()["entry_count"] == 0
    assert matcher.match("b") == []
    assert matcher.statistics()["entry_count"] == 1


def test_small_cache_answers_right_under_random_load() -> None:
    generator = random.Random(11)
    filters, twin = TopicFilters(), PlainTree()
    for text in ("a/+", "+/3", "a/5", "#"):
        filters.add(text)
        twin.add(text, 0)
    matcher = TopicMatcher(filters, topic_limit=16)
    for _ in range(5000):
        topic = f"{generator.choice('ab')}/{min(int(generator.expovariate(0.2)), 40)}"
        assert sorted(matcher.match(topic)) == twin.match(topic)
    statistics = matcher.statistics()
    assert statistics["hits"] + statistics["misses"] == 5000
    assert statistics["entry_count"] == 16
