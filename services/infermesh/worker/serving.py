"""The table of what this worker serves, by target and by deployment. Filled by the agent, read by the servicers."""

from collections.abc import Callable, Iterator

from infermesh.errors import NotFound, NotReady
from infermesh.names import Target
from infermesh.worker.models import HeldModel

Listener = Callable[[HeldModel], None]


class Serving:
    """The held models. Listeners are told when one's credit changes, when it comes and when it goes."""

    def __init__(self) -> None:
        self._models: dict[Target, HeldModel] = {}
        self._listeners: dict[Listener, None] = {}
        self.draining = False
        """True once the process was told to stop."""

    def __iter__(self) -> Iterator[HeldModel]:
        return iter(list(self._models.values()))

    def get(self, target: str) -> HeldModel | None:
        """Returns what is held under a target."""
        return self._models.get(Target(target))

    def add(self, model: HeldModel) -> None:
        """Takes up a model under its target."""
        self._models[model.target] = model
        self.changed(model)

    def remove(self, model: HeldModel) -> None:
        """Forgets a model."""
        if self._models.get(model.target) is model:
            del self._models[model.target]
            self.changed(model)

    def find(self, deployment: str, number: str = "") -> HeldModel:
        """Returns the ready version of a deployment, by number, or the highest one.

        Raises NotFound if nothing of that name is held, NotReady if it is held but not ready.
        """
        of_name = [model for model in self._models.values() if model.deployment == deployment]
        if not of_name:
            raise NotFound.of("model", deployment, "this worker holds none of that name")
        fitting = [model for model in of_name if not number or model.number == number]
        if not fitting:
            held = ", ".join(sorted(model.number for model in of_name))
            raise NotFound.of("version", f"{deployment}/{number}", f"this worker holds {held}")
        ready = [model for model in fitting if model.ready]
        if not ready:
            raise NotReady(f"model '{deployment}' is not ready on this worker: try again", retry_after=1.0)
        return max(ready, key=lambda model: int(model.number))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Begins to tell `listener` of changes; returns the function that ends it."""
        self._listeners[listener] = None
        return lambda: self._listeners.pop(listener, None) and None

    def changed(self, model: HeldModel) -> None:
        """Tells the listeners that a model came, went or has other credit."""
        for listener in list(self._listeners):
            listener(model)

    def drain(self) -> None:
        """Says that the process was told to stop: gateways shall send nothing new."""
        self.draining = True
        for model in self:
            self.changed(model)

    async def until_idle(self) -> None:
        """Returns once no call waits or is under way."""
        for model in self:
            await model.until_idle()
