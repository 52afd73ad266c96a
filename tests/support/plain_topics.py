"""The plain twin of tree and cache: every filter is compared with the topic, level by level."""


def is_match(topic_filter: str, topic: str) -> bool:
    filter_levels, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and filter_levels[0] in ("+", "#"):
        return False
    for index, level in enumerate(filter_levels):
        if level == "#":
            return True
        if index == len(levels) or level not in ("+", levels[index]):
            return False
    return len(filter_levels) == len(levels)


class PlainTree:
    def __init__(self) -> None:
        self.shards: dict[str, set[int]] = {}

    def add(self, topic_filter: str, shard: int) -> None:
        self.shards.setdefault(topic_filter, set()).add(shard)

    def remove(self, topic_filter: str, shard: int) -> None:
        self.shards[topic_filter].remove(shard)
        if not self.shards[topic_filter]:
            del self.shards[topic_filter]

    def match(self, topic: str) -> list[str]:
        return sorted(topic_filter for topic_filter in self.shards if is_match(topic_filter, topic))

    def shard_mask(self, topic_filter: str) -> int:
        return sum(1 << shard for shard in self.shards[topic_filter])
