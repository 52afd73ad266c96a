from typing import TypedDict

from .tree import TopicFilters

class MatchCacheStatistics(TypedDict):
    hits: int
    misses: int
    evictions: int
    entry_count: int
    memory_bytes: int

class TopicMatcher:
    def __init__(self, filters: TopicFilters, topic_limit: int = 65536) -> None: ...
    def match(self, topic: str) -> list[str]: ...
    def switch(self, filters: TopicFilters) -> None: ...
    def forget(self) -> None: ...
    def statistics(self) -> MatchCacheStatistics: ...
