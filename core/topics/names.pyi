from typing import NamedTuple

class InvalidTopic(ValueError): ...

class ParsedTopicFilter(NamedTuple):
    topic_filter: str
    share_name: str | None
    is_ordered: bool
    has_wildcard: bool

class TopicRules:
    def __init__(
        self, *, topic_size_maximum: int = 65535, level_count_maximum: int = 128, level_size_maximum: int = 65535
    ) -> None: ...
    def check_topic(self, topic: str) -> bytes: ...
    def parse_topic_filter(self, topic_filter: str) -> ParsedTopicFilter: ...
