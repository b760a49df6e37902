"""Renderings of the chart, each made once. Without helm these tests are skipped."""

import pytest

from tests.chart import helm


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/chart/" in item.path.as_posix():
            item.add_marker(pytest.mark.chart)


@pytest.fixture(scope="session", autouse=True)
def _helm():
    if not helm.has_helm():
        pytest.skip("helm is not on PATH")


@pytest.fixture(scope="session")
def cluster(_helm):
    """A cluster that answers."""
    if not helm.has_cluster():
        pytest.skip("kubectl is not on PATH, or KUBECONFIG names no cluster that answers")


class Renderings:
    """Manifests by the arguments that they are rendered with. Tests only read them."""

    def __init__(self):
        self._texts, self._objects = {}, {}

    def text(self, *arguments, **names):
        key = (*map(str, arguments), *sorted(names.items()))
        if key not in self._texts:
            self._texts[key] = helm.template(*arguments, **names)
        return self._texts[key]

    def objects(self, *arguments, **names):
        text = self.text(*arguments, **names)
        if text not in self._objects:
            self._objects[text] = helm.parse(text)
        return self._objects[text]


@pytest.fixture(scope="session")
def renderings():
    """`renderings.objects(*arguments)` renders the chart with these arguments."""
    return Renderings()


@pytest.fixture(scope="session", params=helm.VALUE_SETS, ids=lambda path: path.stem.removesuffix("-values"))
def value_set(request):
    """The arguments for each of the chart's value sets."""
    return ["--values", request.param]


@pytest.fixture
def objects(renderings, value_set):
    """The objects of a release with each of the chart's value sets."""
    return renderings.objects(*value_set)
