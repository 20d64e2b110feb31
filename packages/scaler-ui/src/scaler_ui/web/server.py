"""`scaler_ui` as a web service: static pages, the model's data as JSON, a stream that says when there is more, and metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Path, Query
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.gzip import GZipMiddleware

from scaler_protocol.address import Address
from scaler_protocol.ids import ID_BYTES
from scaler_protocol.monitoring.profile_tree import PROFILE_SECONDS_MAX, collapsed
from scaler_protocol.monitoring.topics import OBJECTS_OFFSET_MAX, OutputTopic, graph_topic, objects_topic
from scaler_protocol.service.late_address import address_now
from scaler_protocol.service.security_settings import peer_security
from scaler_protocol.service.web import run_application
from scaler_protocol.service.web_access import HostNames, WebGuard
from scaler_protocol.service.web_docs import add_docs
from scaler_ui.cancellation import NO_KEYS, Operator, operator_of
from scaler_ui.feed import MonitorFeed
from scaler_ui.model import activity, figures, graphs, stream
from scaler_ui.model.blocks import snapshot_data
from scaler_ui.model.chrome_trace import chrome_trace
from scaler_ui.model.cluster import ClusterModel
from scaler_ui.model.hosts import hosts
from scaler_ui.model.jobs import jobs
from scaler_ui.model.metrics import render_metrics
from scaler_ui.model.object_pages import NO_PAGE, known_page, page_data, wanted_page
from scaler_ui.model.object_pages import SORT_PATTERN as OBJECT_SORT_PATTERN
from scaler_ui.model.task_pages import ORDERS, SORT_PATTERN, WHY_PATTERN, find_tasks, read_cursor
from scaler_ui.monitor_address import check_monitor_address
from scaler_ui.outputs import NO_ANSWER, OutputFeed, output_data
from scaler_ui.profiles import calls_of, take_profile
from scaler_ui.web.access import AccessControl
from scaler_ui.web.cancel_route import add_cancel_route
from scaler_ui.web.head_requests import HeadRequests
from scaler_ui.web.history_file import HistoryFile
from scaler_ui.web.malformed import add_malformed_answer
from scaler_ui.web.profiles import ProfileRuns, Run
from scaler_ui.web.sessions import SESSION_SECONDS
from scaler_ui.web.settings import WebSettings
from scaler_ui.web.static_files import FRESH, PageFiles

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger(__name__)

STATIC = FilePath(__file__).with_name("static")

STREAM_SECONDS = 1.0
VIEWERS_MAX = 100
"""Most event streams at once. Each costs a little work every second."""

BARS_MAX = 20_000
"""Most bars in one answer. A reader that needs more asks again."""

ANSWER_SECONDS, ANSWER_LOOKS = 2.0, 40
"""How long a request waits for what workers have kept of a task's output, and how often it looks. The page asks again."""

COMPRESSED_BYTES_MIN = 1_000
COMPRESSION_LEVEL = 4
"""Higher levels take several times as long for a few percent."""

RunNumber = Annotated[int, Path(ge=1, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=5_000)]
Seen = Annotated[int, Query(ge=0)]
Seconds = Annotated[int, Query(ge=0, le=3_600)]
"""A range of time that ends now; 0: all that is kept."""
Cursor = Annotated[str, Query(max_length=4_000)]


def create_application(
    feed: MonitorFeed,
    *,
    silent_after_s: float = 5.0,
    token: str = "",
    allowed_hosts: Iterable[str] = (),
    frames: Sequence[str] = (),
    outputs: OutputFeed | None = None,
    stopping: threading.Event | None = None,
    session_s: float = SESSION_SECONDS,
    operator: Operator = NO_KEYS,
    profiles: ProfileRuns | None = None,
) -> FastAPI:
    """Return the application: pages at `/`, their data under `/api`, `/metrics` for Prometheus, and `/healthz`.

    `outputs` asks workers for the output of tasks. `stopping` ends the event streams, which would never end by themselves.
    `session_s`: seconds after which a visitor must sign in again. `operator`: with which keys tasks are cancelled.
    """
    application = FastAPI(title="Scaler", docs_url=None, redoc_url=None, openapi_url=None)
    add_docs(application, base="/api/docs", openapi="/api/openapi.json")
    add_malformed_answer(application)
    ended = stopping if stopping is not None else threading.Event()
    viewers: set[object] = set()
    runs = profiles if profiles is not None else _profile_runs(feed.monitor_address, None)
    files = PageFiles(STATIC)
    page = files.page("index.html")
    if token:
        page = page.replace('action="/sign-out" hidden', 'action="/sign-out"')

    def read(make: Callable[[ClusterModel], Any]) -> Response:
        with feed.model() as model:
            data = make(model)
        # FastAPI's own encoder checks every value. These are many, and plain data already.
        return Response(json.dumps(data, separators=(",", ":")), media_type="application/json")

    def overview() -> Mapping[str, Any]:
        silent_s = feed.silent_s()
        with feed.model() as model:
            data = figures.overview(model, silent_s, silent_after_s)
            refusal = operator.refusal_of(model.snapshot)
        return {**data, "monitor_address": str(feed.monitor_address), "cancel_refusal": refusal}

    @application.get(
        "/api/overview",
        summary="Connection, task counts, rates, and the number of workers, clients, graphs and objects",
    )
    async def show_overview() -> Mapping[str, Any]:
        return overview()

    @application.get(
        "/api/stream",
        summary="Server-sent events: the overview, once a second",
        response_class=EventSourceResponse,
    )
    async def show_stream() -> AsyncIterator[ServerSentEvent]:
        viewer = object()
        if len(viewers) >= VIEWERS_MAX:
            yield ServerSentEvent(event="refused", data=f"{VIEWERS_MAX} viewers are connected already", retry=30_000)
            return
        viewers.add(viewer)
        try:
            while not ended.is_set():
                yield ServerSentEvent(event="overview", data=overview(), retry=1_000)
                await asyncio.sleep(STREAM_SECONDS)
        finally:
            viewers.discard(viewer)

    @application.get(
        "/api/history", summary="Samples of the last hour, one a second: those after the first `seen` ones"
    )
    async def show_history(seen: Seen = 0) -> Response:
        return read(lambda model: figures.history_after(model, seen))

    @application.get("/api/workers", summary="Workers, and the agents they belong to")
    async def show_workers() -> Response:
        return read(figures.workers)

    @application.get(
        "/api/hosts",
        summary="Hosts with what they did in the last ten minutes, or seconds, and workers of the open ones",
    )
    async def show_hosts(
        open_hosts: Annotated[tuple[str, ...], Query(alias="open", max_length=50)] = (), seconds: Seconds = 0
    ) -> Response:
        return read(lambda model: hosts(model, frozenset(open_hosts), seconds))

    @application.get("/api/clients", summary="Connected clients")
    async def show_clients() -> Response:
        return read(figures.clients)

    @application.get(
        "/api/clients/use",
        summary="What each client uses now, and used in the last seconds, or since scaler_ui started",
    )
    async def show_client_use(seconds: Seconds = 0) -> Response:
        return read(lambda model: activity.client_use(model, seconds))

    @application.get("/api/groups", summary="Groups of clients that share the cluster")
    async def show_groups() -> Response:
        return read(figures.groups)

    @application.get("/api/jobs", summary="Jobs, those first that changed last; at most 1,000")
    async def show_jobs() -> Response:
        return read(
            lambda model: {"count": model.snapshot.job_count if model.snapshot is not None else 0, "jobs": jobs(model)}
        )

    @application.get("/api/graphs", summary="Graphs in progress, then those that ended last")
    async def show_graphs() -> Response:
        return read(graphs.all_graphs)

    @application.get(
        "/api/graphs/{client}/{first_number}", summary="The rows of one graph: as nodes, or as blocks of layers"
    )
    async def show_graph(
        client: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],
        first_number: Annotated[int, Path(ge=0, le=2**63)],
        first_layer: Seen = 0,
        last_layer: Annotated[int | None, Query(ge=0)] = None,
        absent: Annotated[
            Literal["404", "null"], Query(description="how a graph that is not known is answered")
        ] = "404",
    ) -> Response:
        key = bytes.fromhex(client), first_number
        with feed.model() as model:
            running, ended = graphs.in_progress(model, key), graphs.ended_status(model, key)
            picture = graphs.picture(model, key, first_layer, last_layer)
            status = running or ended
            data = None if status is None else graphs.graph_data(model, status, drawn=picture is not None)
        if running is not None:
            feed.ask(graph_topic(*key))
        if data is None and picture is None and absent == "404":
            raise HTTPException(
                404, f"no graph of client {client} begins with task {first_number}, or it ended long ago"
            )
        return Response(json.dumps({"graph": data, "picture": picture}), media_type="application/json")

    @application.get("/api/objects", summary="The largest objects in storage")
    async def show_objects() -> Response:
        return read(figures.objects)

    @application.get(
        "/api/objects/page",
        summary="Objects in storage in any order, 100 at once from `offset` on; `objects` is null until storage has answered",
    )
    async def show_object_page(
        sort: Annotated[str, Query(pattern=OBJECT_SORT_PATTERN)] = "-size_bytes",
        search: Annotated[str, Query(max_length=200)] = "",
        owner: Annotated[str, Query(pattern="^([0-9a-f]{32})?$")] = "",
        offset: Annotated[int, Query(ge=0, le=OBJECTS_OFFSET_MAX)] = 0,
    ) -> Response:
        wanted = wanted_page(sort, search, bytes.fromhex(owner), offset)
        with feed.model() as model:
            known = known_page(model, wanted)
        if known is None:
            known = NO_PAGE
            for _ in range(ANSWER_LOOKS if feed.connected else 0):
                page = feed.look(objects_topic(wanted))
                if page is not None:
                    with feed.model() as model:
                        known = page_data(model, page)
                    break
                await asyncio.sleep(ANSWER_SECONDS / ANSWER_LOOKS)
        return Response(json.dumps(known, separators=(",", ":")), media_type="application/json")

    @application.get("/api/scaling", summary="Scaling strategy and worker adapters")
    async def show_scaling() -> Response:
        return read(figures.scaling)

    @application.get(
        "/api/tasks",
        summary="The last tasks, filtered and in any order; `after`: the `next` of the page before",
    )
    async def show_tasks(
        search: Annotated[str, Query(max_length=200)] = "",
        state: Literal["", "submitted", "assigned", "success", "failed", "canceled", "returned"] = "",
        why: Annotated[str, Query(pattern=WHY_PATTERN, description="kind of the reason why a task waits")] = "",
        function: Annotated[str, Query(max_length=1_000)] = "",
        client: Annotated[str, Query(max_length=64, pattern="^([0-9a-f]{2})*$")] = "",
        label: Annotated[str, Query(max_length=1_000)] = "",
        order: Literal["newest", "oldest", "longest", "waited"] = "newest",
        sort: Annotated[str, Query(pattern=SORT_PATTERN)] = "",
        after: Cursor = "",
        before: Cursor = "",
        limit: Limit = 200,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        for cursor in (after, before):
            if cursor and read_cursor(cursor) is None:
                raise HTTPException(422, "after and before are what an answer has as next and previous")
        return read(
            lambda model: find_tasks(
                model,
                search=search,
                state=state,
                why=why,
                function=function,
                client=bytes.fromhex(client),
                label=label,
                sort=sort or ORDERS[order],
                after=after,
                before=before,
                limit=limit,
                offset=offset,
            )
        )

    @application.get("/api/tasks/{client}/{number}", summary="One task and its failures")
    async def show_task(client: str, number: int) -> Response:
        try:
            client_id = bytes.fromhex(client)
        except ValueError:
            raise HTTPException(404, f"{client!r} is not a client id (32 hexadecimal digits)") from None
        with feed.model() as model:
            row = model.tasks.find(client_id, number)
            failed = figures.failures_of(model, client_id, number)
            if row is None and not failed:
                raise HTTPException(404, f"there is no record of task {number} of client {client}")
            task = None if row is None else figures.task_data(model, row)
        return Response(json.dumps({"task": task, "failures": failed}), media_type="application/json")

    @application.get("/api/tasks/{client}/{number}/output", summary="What a task has printed and logged")
    async def show_output(client: str, number: Annotated[int, Path(ge=1, lt=2**64)]) -> Response:
        topic = OutputTopic(number, _id_of(client))
        with feed.model() as model:
            row = model.tasks.find(topic.subject, number)
            connected = {agent.name for agent in model.snapshot.agents} if model.snapshot is not None else None
        gone = (
            row.agent if row is not None and row.agent and connected is not None and row.agent not in connected else ""
        )
        data = await _answer_of(outputs, topic)
        return Response(json.dumps({**data, "gone": gone}), media_type="application/json")

    @application.get("/api/failures", summary="The last failed tasks with their errors, filtered by words")
    async def show_failures(search: Annotated[str, Query(max_length=200)] = "", limit: Limit = 200) -> Response:
        return read(lambda model: figures.failures(model, search=search, limit=limit))

    @application.get("/api/progress", summary="How far clients and functions are, and when they will be done")
    async def show_progress() -> Response:
        return read(activity.progress)

    @application.get(
        "/api/functions",
        summary="Durations, rates and failures by function in the last seconds, or since scaler_ui started",
    )
    async def show_functions(seconds: Seconds = 0) -> Response:
        return read(lambda model: activity.functions(model, seconds))

    @application.get(
        "/api/errors",
        summary="Failures in groups of one type, function and shape of message: those that changed after `seen`",
    )
    async def show_errors(
        search: Annotated[str, Query(max_length=200)] = "", limit: Limit = 200, seen: Seen = 0, seconds: Seconds = 0
    ) -> Response:
        return read(lambda model: activity.error_groups(model, search=search, limit=limit, seen=seen, seconds=seconds))

    @application.get("/api/errors/{group}", summary="The last failures of one group")
    async def show_error_group(group: Annotated[int, Path(ge=1, le=2**53)]) -> Response:
        return read(
            lambda model: [figures.failure_data(model, one) for one in activity.failures_of_group(model, group)]
        )

    @application.get("/api/agents/log", summary="The last log lines of an agent and of its processors")
    async def show_agent_log(agent: Annotated[str, Query(max_length=1_000)]) -> Response:
        with feed.model() as model:
            agents = model.snapshot.agents if model.snapshot is not None else ()
            found = next((each.incarnation for each in agents if each.name == agent), b"")
        if len(found) != ID_BYTES:
            return Response(json.dumps({**NO_ANSWER, "parts": [], "gone": agent}), media_type="application/json")
        data = await _answer_of(outputs, OutputTopic(0, found))
        return Response(json.dumps({**data, "gone": ""}), media_type="application/json")

    @application.get("/api/logs", summary="The scheduler's log lines after number `seen`")
    async def show_logs(seen: Seen = 0) -> Response:
        return read(lambda model: figures.log_after(model, seen))

    @application.get("/api/bars", summary="The task stream as columns: bars after the first `seen` ones")
    async def show_bars(
        seen: Seen = 0,
        generation: Seen = 0,
        limit: Annotated[int, Query(ge=1, le=BARS_MAX)] = BARS_MAX,
        known: Annotated[str, Query(max_length=64, pattern=r"^(\d{1,6}(,\d{1,6}){4,5})?$")] = "",
    ) -> Response:
        silent_s = feed.silent_s()
        names = [int(count) for count in known.split(",")] if known else []
        return read(lambda model: stream.bars_after(model, seen, generation, limit, names, silent_s))

    @application.get("/api/trace", summary="The task stream as a Chrome trace, for Perfetto")
    async def show_trace() -> StreamingResponse:
        with feed.model() as model:
            pieces = list(chrome_trace(model))
        name = {"content-disposition": 'attachment; filename="scaler-trace.json"'}
        return StreamingResponse(iter(pieces), media_type="application/json", headers=name)

    @application.get("/api/everything", summary="Everything in one object, as scaler_top --once --json prints it")
    async def show_everything() -> Response:
        silent_s = feed.silent_s()
        return read(lambda model: figures.whole(model, silent_s, silent_after_s))

    @application.get("/api/snapshot", summary="The scheduler's last snapshot as it arrived; null before the first one")
    async def show_snapshot() -> Response:
        silent_s = feed.silent_s()
        return read(
            lambda model: {
                "age_seconds": silent_s,
                "missed_messages": model.missed_messages,
                "snapshot": None if model.snapshot is None else snapshot_data(model.snapshot),
            }
        )

    add_cancel_route(application, feed, operator)

    @application.post(
        "/api/profiles",
        summary="Profile what workers run for some seconds from now; the profile that is being taken, if there is one",
    )
    async def start_profile(
        seconds: Annotated[int, Query(ge=1, le=PROFILE_SECONDS_MAX)] = 10,
    ) -> Mapping[str, Any]:
        run = runs.start(seconds)
        return {"id": run.number, "seconds": run.seconds}

    def find_profile(number: int) -> Run:
        run = runs.find(number)
        if run is None:
            raise HTTPException(404, f"there is no profile {number} (any more)")
        return run

    @application.get(
        "/api/profiles/{number}", summary="A profile as a tree of calls, one row per call under its caller"
    )
    async def show_profile(number: RunNumber) -> Response:
        return Response(json.dumps(find_profile(number).data()), media_type="application/json")

    @application.get(
        "/api/profiles/{number}/collapsed",
        summary="A profile as collapsed stacks with microseconds, for speedscope or flamegraph.pl",
    )
    async def show_collapsed(number: RunNumber, function: Annotated[str, Query(max_length=1_000)] = "") -> Response:
        profile = find_profile(number).profile
        text = "" if profile is None else collapsed(calls_of(profile), function)
        name = {"content-disposition": 'attachment; filename="scaler-profile.txt"'}
        return Response(text, media_type="text/plain", headers=name)

    @application.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def show_metrics() -> Response:
        silent_s = feed.silent_s()
        with feed.model() as model:
            text = render_metrics(model, silent_s)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @application.get("/healthz", summary="Return 200 while this service runs")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @application.get("/", include_in_schema=False)
    async def show_page() -> Response:
        # Browsers must ask again each time, so that a page and its scripts have the same version after an upgrade.
        return HTMLResponse(page, headers={"cache-control": FRESH})

    application.mount("/static", files, name="static")
    application.add_middleware(GZipMiddleware, minimum_size=COMPRESSED_BYTES_MIN, compresslevel=COMPRESSION_LEVEL)
    application.add_middleware(HeadRequests, endless=frozenset({"/api/stream"}))
    if token:
        application.add_middleware(AccessControl, token=token, session_s=session_s)
    application.add_middleware(WebGuard, hosts=HostNames(allowed_hosts), pages=frozenset({"/"}), frames=frames)
    return application


def _id_of(text: str) -> bytes:
    """Return the id of a client or an agent. Raises HTTPException."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != ID_BYTES:
        raise HTTPException(404, f"{text!r} is not an id (32 hexadecimal digits)")
    return found


async def _answer_of(outputs: OutputFeed | None, topic: OutputTopic) -> dict[str, Any]:
    """Return the last answer to a question; `parts` is None where there is none yet."""
    if outputs is None:
        raise HTTPException(404, "this service asks no workers for output")
    for _ in range(ANSWER_LOOKS):
        message = outputs.look(topic)
        if message is not None:
            return output_data(message)
        await asyncio.sleep(ANSWER_SECONDS / ANSWER_LOOKS)
    return NO_ANSWER


def run(settings: WebSettings) -> int:
    """Serve the pages until asked to stop. Returns the exit status."""
    security = peer_security(settings, "monitor", "operator")
    monitor_address = address_now(settings.monitor_address)
    check_monitor_address(monitor_address, may_come=True, security=security)
    token = settings.read_token(settings.host, settings.token)
    if settings.token:
        logger.warning("--token: other users of this machine can see it in the list of processes; use --token-file")
    tls = settings.read_tls()
    stopping = threading.Event()
    model = ClusterModel()
    kept = HistoryFile(FilePath(settings.history_file)) if settings.history_file else None
    if kept is not None:
        kept.load(model.history)
    received = MonitorFeed(monitor_address, security=security, warn_after_s=settings.timeout, model=model)
    asking = OutputFeed(monitor_address, security=security)
    with received as feed, asking as outputs, _telemetry(feed, settings.otel_endpoint), _keeping(kept, feed):
        application = create_application(
            feed,
            silent_after_s=settings.timeout,
            token=token or "",
            allowed_hosts=(settings.host, *settings.allowed_hosts),
            frames=settings.allowed_frames,
            outputs=outputs,
            stopping=stopping,
            operator=operator_of(settings),
            profiles=_profile_runs(monitor_address, security),
        )
        return run_application(
            application,
            settings.host,
            settings.port,
            role="webui",
            on_stop=stopping.set,
            tls=tls,
            limits=settings.connection_limits(),
        )


def _profile_runs(address: Address, security: PeerSecurity | None) -> ProfileRuns:
    return ProfileRuns(
        lambda seconds, note: take_profile(address, seconds, security=security, timeout_s=15.0, on_progress=note)
    )


def _keeping(kept: HistoryFile | None, feed: MonitorFeed) -> AbstractContextManager[object]:
    """Return a context that writes the history to its file; without a file it does nothing."""
    return nullcontext() if kept is None else kept.keeping(feed)


def _telemetry(feed: MonitorFeed, endpoint: str) -> AbstractContextManager[object]:
    """Return a context that sends tasks to an OpenTelemetry receiver; without an endpoint it does nothing."""
    if not endpoint:
        return nullcontext()
    from scaler_ui.web.telemetry import TaskSpans

    return TaskSpans(feed, endpoint)
