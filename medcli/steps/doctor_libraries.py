"""Are the libraries that med needs here, in the versions it was tested with? Nothing of them is imported."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from medcli.core.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OURS = "medcli"
_FOR_DEVELOPERS = "dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A requirement of med, with the version that is installed; "" for none."""

    requirement: "Requirement"
    version: str

    @property
    def fits(self) -> bool:
        """Whether the version is within the range that was tested; a build's own mark, "+cpu", does not count."""
        return self.requirement.specifier.contains(self.version, prereleases=True)


def wanted(name: str) -> str:
    """How pip is asked for a library in a tested version: "torch<2.14,>=2.10"; just its name when med does not say."""
    try:
        parts = _parts()[""]
    except metadata.PackageNotFoundError:
        return name
    return next((_pip(part) for part in parts if part.requirement.name == name), name)


def library_findings() -> Iterator[Finding]:
    """Each library that is missing or of another version; one finding when all is well."""
    try:
        parts = _parts()
    except metadata.PackageNotFoundError:
        yield Finding(
            check="libraries",
            state="warning",
            message="med runs from a folder, and is not installed: what it needs is not known",
            hint="in the folder of pyproject.toml: pip install -e .",
        )
        return
    faults = [finding for part in parts[""] if (finding := _fault(part))]
    if not faults:
        count = len(parts[""])
        yield Finding(check="libraries", state="ok", message=f"{count} of {count} are here, in tested versions")
    yield from faults
    yield from _extras({name: found for name, found in parts.items() if name not in ("", _FOR_DEVELOPERS)})


def _fault(part: Part) -> Finding | None:
    name = part.requirement.name
    if not part.version:
        return Finding(
            check="libraries", state="error", message=f"{name} is not installed", hint=f"pip install '{_pip(part)}'"
        )
    if not part.fits:
        return Finding(
            check="libraries",
            state="error",
            message=f"{name} is {part.version}, and med was tested with {_range(part)}",
            hint=f"pip install '{_pip(part)}'",
        )
    return None


def _extras(extras: Mapping[str, tuple[Part, ...]]) -> Iterator[Finding]:
    """What can be added to med: which of it is here, and which of that has a version that was not tested."""
    here = {name: [part for part in parts if part.version] for name, parts in extras.items()}
    installed = [_named(name, here[name], parts) for name, parts in sorted(extras.items()) if here[name]]
    absent = [name for name in sorted(extras) if not here[name]]
    if installed:
        yield Finding(check="extras", state="ok", message=f"installed: {', '.join(installed)}")
    if absent:
        yield Finding(
            check="extras",
            state="ok",
            message=f"not installed: {', '.join(absent)}; who needs one: pip install 'medcli[{absent[0]}]'",
        )
    for name, parts in sorted(here.items()):
        for part in parts:
            if not part.fits:
                yield Finding(
                    check="extras",
                    state="warning",
                    message=f"{part.requirement.name} is {part.version}, and {name} was tested with {_range(part)}",
                    hint=f"pip install '{_pip(part)}'",
                )


def _named(name: str, here: list[Part], parts: tuple[Part, ...]) -> str:
    """The name of an extra; with what is there of it, when that is not all."""
    return name if len(here) == len(parts) else f"{name} ({' '.join(part.requirement.name for part in here)})"


def _parts() -> dict[str, tuple[Part, ...]]:
    """Extra -> its requirements; those of med itself under ""."""
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in metadata.requires(OURS) or ()]
    extras = {name.replace("_", "-"): name for name in metadata.metadata(OURS).get_all("Provides-Extra") or ()}
    plain = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    found = {"": tuple(map(_part, plain))}
    for extra in extras:
        added = [
            one for one in requirements if one not in plain and one.marker and one.marker.evaluate({"extra": extra})
        ]
        found[extra] = tuple(_part(one) for one in added if one.name != OURS)
    return found


def _part(requirement: "Requirement") -> Part:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        version = ""
    return Part(requirement=requirement, version=version)


def _pip(part: Part) -> str:
    return f"{part.requirement.name}{part.requirement.specifier}"


def _range(part: Part) -> str:
    return str(part.requirement.specifier)
