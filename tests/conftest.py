"""What every test gets: an environment without settings of the machine it runs on."""

import os

import pytest
from hypothesis import settings

from tests.cluster.processes import Processes

# The suite says the same twice on the same code, however slow the machine. To search further: pytest
# --hypothesis-profile=search
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1_000, deadline=None)
settings.load_profile("repeatable")

# what would change how our processes or clients behave
_FOREIGN = ("INFERMESH_", "OTEL_", "GRPC_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
FIGURE = "figure"


def pytest_addoption(parser):
    parser.addoption(
        "--soak", type=int, default=0, metavar="CALLS", help="run the tests marked soak, with about so many calls each"
    )
    parser.addoption("--cluster", action="store_true", help="run the tests marked cluster, on the one of KUBECONFIG")


@pytest.hookimpl(trylast=True)  # the marks of folders are there
def pytest_collection_modifyitems(config, items):
    asked = {"soak": config.getoption("soak"), "cluster": config.getoption("cluster")}
    others = [item for item in items if any(item.get_closest_marker(mark) and not asked[mark] for mark in asked)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Processes(config, log) if config.getoption("cluster") else None


def pytest_terminal_summary(terminalreporter):
    reports = [each for some in terminalreporter.stats.values() for each in some]
    for report in reports:
        for name, value in report.user_properties if getattr(report, "when", "") == "teardown" else ():
            if name == FIGURE:
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2].partition('@')[0]}: {value}")


@pytest.fixture
def tell(record_property):
    """Says a figure that the report shall have at its end, from whichever process: `tell("0.3 s")`."""
    return lambda text: record_property(FIGURE, text)


@pytest.fixture
def soak_calls(request):
    """About how many calls a test marked soak shall make."""
    return request.config.getoption("soak")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment():
    """Takes settings out of the environment, for the tests and for the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_FOREIGN) or name in _PROXIES:
                patch.delenv(name)
        yield
