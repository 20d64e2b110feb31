"""The scripts of `examples/`, run as a user runs them, and the classes they start clusters with."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import runpy
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from statistics import NormalDist
from typing import Any

import httpx
import pytest

from scaler import Client, Cluster, Scheduler, SchedulerClusterCombo
from scaler_protocol.testing.free_ports import free_ports
from tests.integration import functions as f
from tests.integration.deployment import is_gone, traces, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *arguments: str, timeout: float = 55, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("[INFO]")]


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("submit.py", ["4.0", "661.46", "[3, 2, 1]"]),
        ("map.py", ["661.46", "[11, 22, 33]", "[11, 22, 33]"]),
        ("graph.py", ["{'e': 1}"]),
        ("nested.py", ["21"]),
        ("capabilities.py", ["3", "2"]),
    ],
)
def test_example(script: str, output: list[str]) -> None:
    assert run(script) == output


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("library", "last"),
    [
        ("pandas", "as in one process: True"),
        ("optuna", "60 trials, best below 5: True"),
        ("prefect", "sum of squares: 285"),
        ("torch", "weights: [1, -2, 3]"),
    ],
)
def test_example_with_a_framework(library: str, last: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    # Prefect starts a server of its own, which takes long, and would report its use.
    surroundings = {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "200",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    assert run(f"with_{library}.py", timeout=280, **surroundings)[-1] == last


def test_a_web_service_computes_on_a_cluster() -> None:
    if importlib.util.find_spec("uvicorn") is None:
        pytest.skip("needs fastapi and uvicorn")
    (port,) = free_ports(1)
    with subprocess.Popen([sys.executable, EXAMPLES / "with_fastapi.py", str(port)]) as service:
        try:
            answers: list[float] = []

            def is_answered() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    answers.append(httpx.get(f"http://127.0.0.1:{port}/pi?darts=20000", timeout=30).json())
                return bool(answers)

            wait_for("an answer", is_answered, 50)
            assert abs(answers[0] - math.pi) < 0.1
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(30)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("matplotlib", "arch")), reason="needs the demo's packages"
)
def test_the_demo_prints_its_answer_and_saves_a_picture(tmp_path: Path) -> None:
    lines = run("demo.py", "--resamples", "10", "--output", str(tmp_path))
    assert any("times as fast" in line for line in lines)
    assert (tmp_path / "trend-following.png").stat().st_size > 50_000


def test_the_risk_of_options() -> None:
    lines = dict(line.split(": ") for line in run("option_risk.py"))
    numbers = {name: float(text.replace(",", "")) for name, text in lines.items()}
    assert 0 < numbers["value at risk, 97.5 %"] < numbers["expected shortfall"] < abs(numbers["value today"])


def test_the_formula_for_options_is_right() -> None:
    """A put and a call with the same strike differ by what the strike is worth today (put-call parity)."""
    risk = runpy.run_path(str(EXAMPLES / "option_risk.py"))
    call, put = (
        risk["price"]({"kind": kind, "strike": "100", "volatility": "0.2"}, 105.0, 1.0) for kind in ("call", "put")
    )
    assert call - put == pytest.approx(105 - 100 * math.exp(-risk["RATE"]))


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
def test_the_best_parameters_come_first() -> None:
    lines = run("parameter_grid.py")
    errors = [float(line.rpartition(" ")[2]) for line in lines]
    assert len(errors) == 10
    assert errors == sorted(errors)
    # Without a model, the error is the standard deviation of what is predicted: 77.
    assert 50 < errors[0] < 60


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_tiles_make_the_picture_of_one_piece(tmp_path: Path) -> None:
    lines = run("image_tiles.py", "--output", str(tmp_path / "edges.png"))
    assert lines[0].endswith("as in one piece: True")
    assert (tmp_path / "edges.png").stat().st_size > 10_000


def test_words_are_counted(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.md").write_text("one two two " * (number + 1))
    assert run("word_count.py", str(tmp_path)) == [
        "5 documents, 45 words, 2 different ones",
        "    30  two",
        "    15  one",
    ]
    assert (
        "no documents"
        in subprocess.run(
            [sys.executable, EXAMPLES / "word_count.py", tmp_path / "0.md"], capture_output=True, text=True, check=False
        ).stderr
    )


def test_a_run_with_checkpoints_goes_on_where_it_was(tmp_path: Path) -> None:
    part, whole = str(tmp_path / "part.json"), str(tmp_path / "whole.json")
    run("checkpoints.py", "--file", part, "--portions", "3")
    continued = run("checkpoints.py", "--file", part, "--portions", "8")
    assert continued[0] == "3 portions were done, 5 are missing"
    at_once = run("checkpoints.py", "--file", whole, "--portions", "8")
    assert continued[1] == at_once[1]
    price, error = (float(text.rpartition(" ")[2]) for text in at_once[1].split(", "))
    least, most = bounds_of_the_asian_option(runpy.run_path(str(EXAMPLES / "checkpoints.py")))
    assert least - 3 * error < price < most
    assert 0 < error < 0.1


def bounds_of_the_asian_option(given: dict[str, Any]) -> tuple[float, float]:
    """What the price lies between. Both have formulas.

    The geometric mean is at most the arithmetic one. And what the mean pays is at most the mean of what each month pays.
    """
    spot, strike, rate, volatility, months = (
        given[name] for name in ("SPOT", "STRIKE", "RATE", "VOLATILITY", "MONTHS")
    )

    def call(center: float, variance: float) -> float:
        """The value of a call on exp(X), where X is normal, paid after a year."""
        d2 = (center - math.log(strike)) / math.sqrt(variance)
        normal = NormalDist()
        paid = math.exp(center + variance / 2) * normal.cdf(d2 + math.sqrt(variance)) - strike * normal.cdf(d2)
        return float(math.exp(-rate) * paid)

    drift = rate - volatility**2 / 2
    geometric = call(
        math.log(spot) + drift * (months + 1) / (2 * months),
        volatility**2 * (months + 1) * (2 * months + 1) / (6 * months**2),
    )
    monthly = [
        call(math.log(spot) + drift * month / months, volatility**2 * month / months) for month in range(1, months + 1)
    ]
    return geometric, sum(monthly) / months


@pytest.mark.parametrize("name", ["option_risk", "parameter_grid", "image_tiles", "word_count", "checkpoints"])
def test_a_real_example_is_short_and_listed(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 100
    assert f"`examples/{name}.py`" in (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")


def test_the_example_file_has_a_section_for_each_command_it_names() -> None:
    sections = tomllib.loads((EXAMPLES / "example_config.toml").read_text())
    assert set(sections) == {"scheduler", "cluster", "object_storage_server", "webui"}


# --- local clusters


def test_a_combo_starts_and_stops_all_of_it() -> None:
    before = traces()
    combo = SchedulerClusterCombo(n_workers=2)
    with Client(address=combo.get_address()) as client:
        assert client.map(f.square, range(10)) == [x * x for x in range(10)]
    started = traces().processes - before.processes
    assert len(started) >= 4
    combo.shutdown()
    combo.shutdown()
    wait_for("all processes are gone", lambda: all(is_gone(pid) for pid in started))


def test_a_combo_is_a_context_manager_and_takes_the_commands_settings() -> None:
    with (
        SchedulerClusterCombo(
            n_workers=1,
            per_worker_capabilities={"linux": -1, "cpu": 4},
            per_worker_task_queue_size=10,
            event_loop="builtin",
            task_timeout_seconds=30,
            max_task_attempts=1,
            logging_level="WARNING",
        ) as combo,
        Client(combo.get_address()) as client,
    ):
        assert client.submit_verbose(f.square, (3,), capabilities={"cpu": -1}).result(timeout=30) == 9
        with pytest.raises(ValueError, match="protected"):
            client.shutdown()


@pytest.mark.without_keys("with keys, only operators end the cluster")
def test_an_unprotected_combo_can_be_shut_down_by_its_client() -> None:
    with SchedulerClusterCombo(n_workers=1, protected=False) as combo:
        client = Client(combo.get_address())
        assert client.submit(f.square, 3).result(timeout=30) == 9
        client.shutdown()
        client.disconnect()


def test_a_combo_at_an_address_of_one_s_choice() -> None:
    # Its own, its object storage server's, and the monitors'.
    address = f"tcp://127.0.0.1:{free_ports(3)[0]}"
    with SchedulerClusterCombo(address=address, n_workers=1) as combo:
        assert combo.get_address() == address
        with Client(address=address) as client:
            assert client.submit(f.square, 4).result(timeout=30) == 16


def test_a_combo_takes_the_older_name_of_the_size_of_queues() -> None:
    with SchedulerClusterCombo(1, per_worker_queue_size=1) as combo, Client(combo.get_address()) as client:
        assert client.map(f.square, range(10)) == [x * x for x in range(10)]


def test_scheduler_and_cluster_apart() -> None:
    with Scheduler(address="tcp://127.0.0.1:0") as scheduler:
        cluster = Cluster(address=scheduler.get_address(), worker_names=["a", "b"])
        cluster.start()
        try:
            with Client(scheduler.get_address()) as client:
                pids = set(client.map(f.process_id, range(50)))
                assert os.getpid() not in pids
        finally:
            cluster.terminate()
            cluster.join(30)
        wait_for("its processors are gone", lambda: all(is_gone(pid) for pid in pids))
