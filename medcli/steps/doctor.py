"""`med doctor`: what stands in the way of work, and the command that mends it.

A doctor works where nothing else does: nothing here imports a library that may be broken.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain

from medcli.core.errors import DataError, DeviceError, ModelError, UsageError
from medcli.core.finding import Finding
from medcli.core.report import Report
from medcli.steps import doctor_torch
from medcli.steps.doctor_cache import cache_findings
from medcli.steps.doctor_data import base_findings, dataset_findings
from medcli.steps.doctor_libraries import library_findings
from medcli.steps.doctor_machine import disk_findings, memory_findings, places, python_findings, system_findings
from medcli.steps.doctor_network import Asked, Hub, network_findings
from medcli.steps.doctor_project import Sections, project_findings, variable_findings
from medcli.steps.doctor_runs import run_findings

Check = Callable[[], Iterable[Finding]]
# What `med doctor` ends with when the first error is of this check; the machine's own are errors of a device.
_CODES = {
    "med.toml": UsageError.exit_code,
    "variables": UsageError.exit_code,
    "data sets": DataError.exit_code,
    "knowledge bases": DataError.exit_code,
    "runs": ModelError.exit_code,
    "cache": ModelError.exit_code,
}


def examine(
    report: Report, sections: Sections, hubs: Sequence[Hub] = (), probe: Sequence[str] = doctor_torch.PROBE
) -> list[Finding]:
    """Look at everything, and say how it is; nothing is changed.

    `sections` are the tables of med.toml with their settings, `hubs` are tried where there are any, and `probe` is the
    program that imports torch.
    """
    asked = Asked(hubs)
    with doctor_torch.started(probe) as process:
        report.stage("looking at this machine and this project")
        machine = _all(
            python_findings, system_findings, library_findings, memory_findings, partial(disk_findings, places())
        )
        project = _all(
            partial(project_findings, sections), partial(variable_findings, sections),
            dataset_findings, base_findings, run_findings, cache_findings,
        )  # fmt: skip
        driver = doctor_torch.machine()
        report.stage("loading torch and transformers")
        probed = doctor_torch.ended(process)
    gpus = _all(partial(doctor_torch.torch_findings, probed), partial(doctor_torch.gpu_findings, probed.facts, driver))
    network = _all(partial(network_findings, asked)) if hubs else []
    return [*machine, *gpus, *network, *project]


def exit_code(findings: Iterable[Finding], *, strict: bool) -> int:
    """0 when there is no error, else the code of the first one's kind; `strict` counts warnings as errors."""
    counted = ("error", "warning") if strict else ("error",)
    bad = (finding for finding in findings if finding.state in counted)
    return next((_CODES.get(finding.check, DeviceError.exit_code) for finding in bad), 0)


def _all(*checks: Check) -> list[Finding]:
    return list(chain.from_iterable(check() for check in checks))
