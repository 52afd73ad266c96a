"""Plans: what a publisher sends reaches those that the plan names, by the rules of topic filters."""

import pytest

from rookery.bench import plan
from rookery.bench.plan import Client, Plan


def is_match(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic; no `$` topics here."""
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[2]
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, levels = wanted[:-1], levels[: len(wanted) - 1]
    return len(wanted) == len(levels) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))


def flows_of(plan: Plan) -> list[Client]:
    return [client for client in plan.clients if client.topics]


EACH = {
    "pairs": plan.pairs(3, prefix="t"),
    "fan-out": plan.fan_out(4, prefix="t"),
    "fan-in": plan.fan_in(4, prefix="t"),
    "trickle": plan.trickle(5, prefix="t", bystanders=3),
    "retained": plan.retained(7, 3, prefix="t"),
}
PARTED = {
    "shared": plan.shared(3, 2, prefix="t"),
    "filters": plan.filters(2, 4, 25, prefix="t"),
}


@pytest.mark.parametrize("whole", EACH.values(), ids=EACH.keys())
def test_a_client_receives_exactly_the_flows_that_its_filters_match(whole: Plan) -> None:
    flows = flows_of(whole)
    for client in whole.clients:
        matched = [
            index
            for index, flow in enumerate(flows)
            if any(is_match(topic_filter, topic) for topic_filter in client.topic_filters for topic in flow.topics)
        ]
        assert matched == list(client.receives)


@pytest.mark.parametrize("whole", PARTED.values(), ids=PARTED.keys())
def test_every_message_of_a_parted_plan_goes_to_exactly_one_client(whole: Plan) -> None:
    for flow in flows_of(whole):
        for index, topic in enumerate(flow.topics):
            takers = [
                client
                for client in whole.clients
                if any(is_match(topic_filter, topic) for topic_filter in client.topic_filters)
            ]
            groups = {client.topic_filters for client in takers if client.topic_filters[0].startswith("$share/")}
            assert len(groups) == 1 or len(takers) == 1
            assert all(not client.owns or index in client.owns for client in takers)


def test_half_of_the_many_filters_have_wildcards_and_each_topic_is_matched_by_one() -> None:
    whole = plan.filters(1, 4, 25, prefix="t")
    topic_filters = [topic_filter for client in whole.clients for topic_filter in client.topic_filters]
    assert sum("+" in topic_filter or "#" in topic_filter for topic_filter in topic_filters) == 50
    for topic in whole.clients[-1].topics:
        assert sum(is_match(topic_filter, topic) for topic_filter in topic_filters) == 1


@pytest.mark.parametrize("whole", [*EACH.values(), *PARTED.values()], ids=[*EACH.keys(), *PARTED.keys()])
def test_receivers_and_publishers_of_a_plan_are_those_that_do_so(whole: Plan) -> None:
    assert all(whole.clients[index].topic_filters for index in whole.receivers)
    assert all(whole.clients[index].topics for index in whole.publishers)
    assert len(whole.publishers) == whole.flow_count - sum(client.is_retaining for client in whole.clients)


def test_idle_clients_do_nothing() -> None:
    assert plan.idle(3, prefix="t") == Plan((Client(),) * 3)
