"""Find plug-ins by looking in a folder: one file is one plug-in, the folder is the registry."""

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from medcli.core.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of modules that all offer the same names; nothing is imported until `get`."""

    package: str
    kind: str

    def names(self) -> list[str]:
        """The plug-ins' names, sorted."""
        folder = import_module(self.package).__path__
        return sorted(module.name for module in pkgutil.iter_modules(folder))

    def get(self, name: str) -> ModuleType:
        """The plug-in called `name`; raises UnknownNameError with the nearest name."""
        if name not in self.names():
            raise UnknownNameError(self.kind, name, self.names())
        return import_module(f"{self.package}.{name}")
