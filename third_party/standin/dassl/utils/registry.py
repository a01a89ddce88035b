"""Classes by name."""

from collections.abc import Callable


class Registry:
    """A named table of classes or functions, filled by a decorator.

    TRAINER_REGISTRY = Registry("TRAINER")

    @TRAINER_REGISTRY.register()
    class CoOp(TrainerX): ...
    """

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, object] = {}

    def register(self, obj=None, force: bool = False) -> Callable:
        """Register `obj` under its `__name__`, or decorate with it. A taken name raises KeyError unless `force`."""
        if obj is None:
            return lambda decorated: self.register(decorated, force)
        name = obj.__name__
        if name in self._objects and not force:
            raise KeyError(f"expected a new name for {self._name}, found {name!r} registered already")
        self._objects[name] = obj
        return obj

    def get(self, name: str):
        if name not in self._objects:
            raise KeyError(f"expected a registered name for {self._name}, found {name!r}")
        return self._objects[name]

    def registered_names(self) -> list[str]:
        return list(self._objects)
