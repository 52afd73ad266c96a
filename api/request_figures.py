"""What requests over HTTP came to, for `GET /metrics`.

Labels are bounded: paths are those of our routes, not those that callers ask for, and everything else is one.
"""

import trio
from prometheus_client import CollectorRegistry, Counter, Histogram
from quart import Response, g, request
from quart_trio import QuartTrio

from .metric_table import HTTP_REQUESTS, HTTP_SECONDS

REQUEST_FIGURES = "request_figures"  # in app.extensions: a collector of Prometheus

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
NO_ROUTE = "(none)"


def count_requests(app: QuartTrio) -> None:
    """Have app count its requests from now on."""
    registry = CollectorRegistry()
    requests = Counter(HTTP_REQUESTS.name, HTTP_REQUESTS.meaning, HTTP_REQUESTS.labels, registry=registry)
    seconds = Histogram(
        HTTP_SECONDS.name, HTTP_SECONDS.meaning, HTTP_SECONDS.labels, registry=registry, buckets=BUCKETS_S
    )
    app.extensions[REQUEST_FIGURES] = registry

    @app.before_request
    async def begin() -> None:
        g.began_at = trio.current_time()

    @app.after_request
    async def count(response: Response) -> Response:
        route = request.url_rule
        path = NO_ROUTE if route is None else route.rule
        # An unknown method has no route.
        method = NO_ROUTE if route is None else request.method
        requests.labels(method, path, str(response.status_code)).inc()
        seconds.labels(path).observe(trio.current_time() - g.get("began_at", trio.current_time()))
        return response
