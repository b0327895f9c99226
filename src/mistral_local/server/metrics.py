"""Numbers for Prometheus: of the requests, counted here, and of the engine, asked for when they are wanted."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mistral_local.engine.stats import EngineStats

PREFIX = "mistral_local"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of one app.

    Attributes:
        in_hand: requests whose response has not ended.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self._requests = Counter(f"{PREFIX}_http_requests", "Requests", labels, registry=self._registry)
        self._seconds = Histogram(
            f"{PREFIX}_http_seconds",
            "Time from a request's headers to the end of its response",
            ("route",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.in_hand = Gauge(f"{PREFIX}_http_in_hand", "Requests that are worked on", registry=self._registry)
        self._engine = _EngineCollector()
        self._registry.register(self._engine)

    def observe(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request whose response has ended.

        Args:
            route: its path as the route was declared, so that there are few of them.
        """
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def expose(self, stats: EngineStats) -> bytes:
        """All metrics in Prometheus' text format."""
        self._engine.stats = stats
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """The numbers of the engine, as it counts them."""

    def __init__(self) -> None:
        self.stats: EngineStats | None = None

    def collect(self) -> Iterator[Metric]:
        if (stats := self.stats) is None:
            return
        gauges = {
            "running_sequences": ("Sequences that run", stats.num_running),
            "waiting_sequences": ("Sequences that wait", stats.num_waiting),
            "kv_cache_use_ratio": ("Share of the KV cache that is taken", stats.kv_use),
            "new_tokens_per_second": ("New tokens per second, over ten seconds", stats.new_tokens_per_s),
            "time_to_first_token_seconds": ("Mean over ten seconds", stats.time_to_first_token_s),
            "queue_time_seconds": ("Mean over ten seconds", stats.queue_time_s),
        }
        for name, (text, value) in gauges.items():
            if value is not None:
                yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
        counters = {
            "prompt_tokens": ("Prompt tokens that were computed", stats.prompt_tokens),
            "cached_tokens": ("Prompt tokens that the KV cache knew", stats.cached_tokens),
            "new_tokens": ("Tokens that were chosen", stats.new_tokens),
        }
        for name, (text, count) in counters.items():
            yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=count)
        finished = CounterMetricFamily(f"{PREFIX}_finished_sequences", "Sequences that ended", labels=("reason",))
        for reason, count in stats.num_finished.items():
            finished.add_metric((reason,), count)
        yield finished
