"""What the manager and the journal say of themselves, as a page for Prometheus.

The page is made when it is asked for, in a thread of the HTTP server. The manager belongs to its event loop, so that is
asked; if it does not answer in time the request fails, which is what a monitor should see.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, NamedTuple, Self

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.connection import ConnectionStats, Health, ManagerStats, Status
from ingest.manager import TickerManager
from ingest.server import HttpRequest, HttpResponse, HttpServer, ListenError
from kitelake.errors import StartError
from storage.journal import JournalWriter

log = structlog.get_logger()

ANSWER_SECONDS: Final = 5.0
"""How long the event loop may take to answer."""

_LABELS: Final = ("account", "connection")
_STATES: Final = ("received", "written", "durable")


class _Measure(NamedTuple):
    """One number of a connection; None where there is none at the moment."""

    family: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    meaning: str
    value: Callable[[ConnectionStats], float | None]


_MEASURES: Final = (
    _Measure(GaugeMetricFamily, "kitelake_connected", "1 while the socket is open.", lambda one: one.connected),
    _Measure(GaugeMetricFamily, "kitelake_instruments", "Instruments on it.", lambda one: one.instruments),
    _Measure(CounterMetricFamily, "kitelake_frames_total", "Frames received.", lambda one: one.frames),
    _Measure(CounterMetricFamily, "kitelake_packets_total", "Good packets received.", lambda one: one.packets),
    _Measure(CounterMetricFamily, "kitelake_received_bytes_total", "Bytes read.", lambda one: one.bytes),
    _Measure(
        CounterMetricFamily,
        "kitelake_decode_failures_total",
        "Ranges of bytes that were no packet.",
        lambda one: one.decode_failures,
    ),
    _Measure(CounterMetricFamily, "kitelake_reconnects_total", "Reconnects.", lambda one: one.reconnects),
    _Measure(
        CounterMetricFamily,
        "kitelake_asked_again_total",
        "Instruments that were asked for once more.",
        lambda one: one.asked_again,
    ),
    _Measure(
        GaugeMetricFamily,
        "kitelake_silent_instruments",
        "Instruments that were asked for and brought nothing.",
        lambda one: one.silent,
    ),
    _Measure(
        GaugeMetricFamily,
        "kitelake_wrong_mode_instruments",
        "Instruments that come in another mode than asked for.",
        lambda one: one.wrong_mode,
    ),
    _Measure(
        GaugeMetricFamily,
        "kitelake_last_frame_age_seconds",
        "Since the last byte.",
        lambda one: one.last_frame_age_seconds,
    ),
    _Measure(GaugeMetricFamily, "kitelake_uptime_seconds", "Since this socket opened.", lambda one: one.uptime_seconds),
)


class ManagerCollector(Collector):
    """Asks the manager and the journal of its frames, whose event loop is `loop`, at each scrape.

    To be used from other threads only.
    """

    def __init__(
        self,
        manager: TickerManager,
        journal: JournalWriter | None,
        health: Callable[[], Health],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._manager = manager
        self._journal = journal
        self._health = health
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Raises TimeoutError if the loop does not answer."""
        stats, health, records = asyncio.run_coroutine_threadsafe(self._ask(), self._loop).result(ANSWER_SECONDS)
        yield from _of_connections(stats)
        yield from _of_health(health)
        if records is not None:
            yield _of_journal(records)

    async def _ask(self) -> tuple[ManagerStats, Health, dict[str, int] | None]:
        records = None
        if (journal := self._journal) is not None:
            counts = journal.records, journal.written_records, journal.durable_records
            records = dict(zip(_STATES, counts, strict=True))
        return self._manager.stats(), self._health(), records


def _of_connections(stats: ManagerStats) -> Iterator[Metric]:
    for measure in _MEASURES:
        family = measure.family(measure.name, measure.meaning, labels=_LABELS)
        for one in stats.connections:
            if (value := measure.value(one)) is not None:
                family.add_metric((one.account, str(one.connection)), value)
        yield family
    latency = GaugeMetricFamily(
        "kitelake_latency_seconds",
        "From the read of a frame to its consumer, of the last frames that one took.",
        labels=(*_LABELS, "quantile"),
    )
    for one in stats.connections:
        for quantile, seconds in (("0.5", one.latency_p50_seconds), ("0.99", one.latency_p99_seconds)):
            if seconds is not None:
                latency.add_metric((one.account, str(one.connection), quantile), seconds)
    yield latency


def _of_health(health: Health) -> Iterator[Metric]:
    status = GaugeMetricFamily("kitelake_health", "1 for the status that it is in.", labels=("status",))
    for each in Status:
        status.add_metric((each.value,), each is health.status)
    yield status
    yield GaugeMetricFamily(
        "kitelake_health_ratio",
        "Share of the instruments that are on an open connection and come as asked for.",
        value=health.percent / 100,
    )


def _of_journal(records: dict[str, int]) -> Metric:
    """Records of this stream by how far they have come."""
    journal = GaugeMetricFamily(
        "kitelake_journal_records",
        "Records of the present stream: received, safe from the end of the process, safe from the end of the machine.",
        labels=("state",),
    )
    for state, count in records.items():
        journal.add_metric((state,), count)
    return journal


class MetricsServer:
    """The page over HTTP: listens there as long as the context lasts, so that a port in use is known at once.

    `port` 0: a free one. Entering raises StartError if it cannot listen there.
    """

    def __init__(self, *, port: int, host: str = "127.0.0.1") -> None:
        self._host, self._port = host, port
        self._registry = CollectorRegistry()

    async def __aenter__(self) -> Self:
        try:
            # In a thread: names are looked up for it.
            self._server = await asyncio.to_thread(_listen, self._registry, self._host, self._port)
        except ListenError as error:
            raise StartError(
                f"the metrics cannot be served at {self._host}, port {self._port}: {error.reason}; config.yaml sets "
                "both under `metrics`"
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        # In a thread, too: frames and open requests must not wait for it.
        await asyncio.to_thread(self._server.stop)

    @contextlib.asynccontextmanager
    async def serve(
        self,
        manager: TickerManager,
        *,
        journal: JournalWriter | None = None,
        health: Callable[[], Health] | None = None,
    ) -> AsyncIterator[int]:
        """Answer as long as the context lasts, and then listen no more; gives the port. Once only.

        `journal` is where the manager's frames go, if they go there; `health` says more than the manager's own. To be
        entered on the manager's event loop.
        """
        loop = asyncio.get_running_loop()
        self._registry.register(ManagerCollector(manager, journal, health or manager.health, loop))
        self._server.start()
        log.info("metrics are served", host=self._host, port=self._server.port)
        try:
            yield self._server.port
        finally:
            await asyncio.to_thread(self._server.stop)


def _listen(registry: CollectorRegistry, host: str, port: int) -> HttpServer:
    """The library's page, which is a WSGI application, on our server."""
    application = make_wsgi_app(registry)

    def page(request: HttpRequest) -> HttpResponse:
        answered: list[tuple[int, dict[str, str]]] = []

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            answered.append((int(status.partition(" ")[0]), dict(headers)))

        environ = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_text,
            "HTTP_ACCEPT": request.headers.get("Accept"),
            "HTTP_ACCEPT_ENCODING": request.headers.get("Accept-Encoding"),
        }
        body = b"".join(application(environ, start_response))
        ((status, headers),) = answered
        return HttpResponse(status, headers.pop("Content-Type", "text/plain"), body, headers)

    return HttpServer(page, name="metrics", host=host, port=port)
