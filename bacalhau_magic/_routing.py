"""Which target a cell goes to, why, and with which options: pure, from what was asked and what was found available.

What was asked on the line or in the call and can't be kept is refused, naming the option, the place and the reason.
What is configured or built in is cut or left out, and the card says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _gpus, _marks
from ._gpus import Wanted
from ._languages import Language
from ._placement import capacity, holds, spelled
from ._stages import Availability, Route, Target
from ._values import publisher
from ._wire import BuildVersion, NodeState
from .errors import BacalhauMagicError, ConfigError, OptionError
from .options import JobOptions, plain_name, size_text, spelling

__all__ = ["NOT_ISOLATED", "ONE_STREAM", "choose", "fitted"]

NOT_ISOLATED = "Not isolated, network open"
"""How the notice begins that is said once a session."""

ONE_STREAM = "By the Bacalhau CLI: what the job prints on stderr counts as stdout."
"""A notice that is said once a session."""

_SET_UP = "Set BACALHAU_API_URL, or write %bacalhau config api_url=https://host:1234, to reach a cluster."
_FREE: Mapping[str, Collection[Any]] = {}
"""No policy's choices."""
_PATIENT_SECONDS = 300.0
"""With `prefer = "local"`, a sandboxed cell with a longer time than this goes to the cluster."""


def choose(
    options: JobOptions,
    language: Language,
    available: Availability,
    *,
    strict: Collection[str] = (),
    limited: Collection[str] = (),
    allowed: Mapping[str, Collection[Any]] = _FREE,
    remote_gpu: str = "",
) -> Route:
    """The route of a cell: the first of these rows that fits.

    1 runtime=bacalhau, disabled → error; 2 it answers → Bacalhau; 3 it doesn't → local with fallback, else error;
    4, 5 runtime=local → local or error; 6, 7 nothing configured → local or error; 8 only an untrusted project's
    endpoint → error; 9 local preferred and able → local; 10 it answers → Bacalhau; 11 it doesn't → as 3.
    `strict` names configured options that refuse instead of being cut, `limited` those of a policy's limits, which a
    place must be able to keep; `allowed` are a policy's choices, to which nothing is changed that is not among them;
    `remote_gpu` are the default GPUs of a job for Bacalhau. Raises ConfigError or OptionError.
    """

    def local(why: str, instead: str = "") -> Route:
        if "profile" in options.asked and not instead and not available.local_key:
            raise OptionError(f"--profile {options.profile} can't be kept: the cell goes to the local node ({why}).", option="profile")
        target, fit = _local_fit(options, language, available, strict, limited, allowed)
        return Route(target, why, (*filter(None, (instead,)), *fit.notices), fit.options, instead)

    def remote(why: str) -> Route:
        assert available.remote is not None
        wanted = options if not remote_gpu or options.gpu is not None else options.over({"gpu": remote_gpu})
        fit = fitted(available.remote, wanted, language, strict, limited, allowed)
        return Route(available.remote, why, (*available.remote.endpoint.risks, *fit.notices), fit.options)

    def no_answer() -> Route:
        problem = _remote_problem(available)
        if options.fallback:
            return local(f"{problem}, and fallback is on", f"Ran here instead: {problem}.")
        raise ConfigError(f"The cell can't run on Bacalhau: {problem}.", setting="api_url", hint=_advice(available))

    if options.runtime == "bacalhau":
        if not available.enabled:
            raise ConfigError(
                "--runtime bacalhau: Bacalhau is switched off by BACALHAU_ENABLED=false.",
                setting="enabled",
                hint="Set BACALHAU_ENABLED=true, or leave --runtime out to run here.",
            )
        return remote("runtime bacalhau") if available.remote else no_answer()
    if options.runtime == "local":
        return local("runtime local")
    none_configured = available.remote_endpoint is None and available.remote is None and not available.untrusted_url
    if not available.enabled or none_configured:
        try:
            return local(_why_local(available))
        except BacalhauMagicError as error:
            error.hint = " ".join(part for part in (error.hint, _SET_UP if available.enabled else "") if part)
            raise
    if available.remote_endpoint is None and available.remote is None:
        raise ConfigError(
            f"The project's pyproject.toml names the endpoint {available.untrusted_url}, which you have not trusted yet.",
            setting="api_url",
            origin="pyproject.toml",
            hint="Write %bacalhau use --trust if you want your cells to go there, or use --runtime local.",
        )
    if available.prefer == "local" and not options.long and not (options.sandbox and options.run_seconds > _PATIENT_SECONDS):
        try:
            return local('prefer = "local"')
        except (ConfigError, OptionError):
            pass  # The local node can't do it: the next rows decide.
    return remote("the configured endpoint answers") if available.remote else no_answer()


def _why_local(available: Availability) -> str:
    if not available.enabled:
        return "BACALHAU_ENABLED is false"
    return "the configured key is the embedded node's" if available.local_key else "no endpoint is configured"


def _remote_problem(available: Availability) -> str:
    if available.remote_endpoint is not None:
        return available.remote_problem.rstrip(".") or f"{available.remote_endpoint.url} does not answer"
    if available.untrusted_url:
        return f"the project's endpoint {available.untrusted_url} is not trusted yet"
    return "no endpoint is configured"


def _advice(available: Availability) -> str:
    if available.remote_advice:
        return available.remote_advice
    if available.remote_endpoint is not None:
        return "Check the address and the network, or use --fallback or --runtime local."
    if available.untrusted_url:
        return "Write %bacalhau use --trust if you want your cells to go there."
    return _SET_UP


@dataclass
class _Fit:
    """The options while they are being fitted to a target: what could not be kept is changed or refused here."""

    where: str
    options: JobOptions
    strict: frozenset[str]
    limited: frozenset[str]
    allowed: Mapping[str, Collection[Any]]
    notices: list[str] = field(default_factory=list)

    def lacks(self, name: str, reason: str, hint: str = "", **instead: Any) -> None:
        """Refuse the option `name` where it was asked for, or where a policy does not allow what stands in its place; else put `instead` in force."""
        # Without an image a cell has its language's own, which no policy can refuse.
        barred = next(
            (other for other, value in instead.items() if value is not None and value not in self.allowed.get(other, (value,))), ""
        )
        if name in self.options.asked or name in self.strict or barred:
            allows = f", and the policy does not allow {plain_name(barred)} {instead[barred]}" if barred else ""
            raise OptionError(f"{spelling(name)} can't be kept on {self.where}: {reason}{allows}.", option=name.rstrip("_"), hint=hint)
        self.options = self.options.with_values(**instead)

    def say(self, sentence: str) -> None:
        self.notices.append(sentence)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The options in effect on a target, and what the card says about them."""

    options: JobOptions
    notices: tuple[str, ...]


def fitted(
    target: Target,
    options: JobOptions,
    language: Language,
    strict: Collection[str] = (),
    limited: Collection[str] = (),
    allowed: Mapping[str, Collection[Any]] = _FREE,
) -> Fitted:
    """The options as the target can keep them; raises OptionError for an asked one that it can't, ConfigError else."""
    where = "the local node" if target.is_local else target.endpoint.label
    fit = _Fit(where, options, frozenset(strict), frozenset(limited), allowed)
    if target.is_local:
        _fit_interpreter(fit, target, language)
        _fit_isolation(fit, target)
        _fit_constraints(fit, target.nodes)
        _fit_secrets_here(fit, target)
    else:
        _fit_secrets(fit, target)
        _fit_streams(fit, target)
    _fit_publisher(fit, target)
    _fit_packages(fit, target)
    _fit_amounts(fit, target)
    _fit_gpu(fit, target)
    return Fitted(fit.options, tuple(fit.notices))


def _local_fit(
    options: JobOptions,
    language: Language,
    available: Availability,
    strict: Collection[str],
    limited: Collection[str],
    allowed: Mapping[str, Collection[Any]],
) -> tuple[Target, Fitted]:
    if available.local is None:
        problem = available.local_problem.rstrip(".") or "it can't be started"
        raise ConfigError(f"The local node can't run the cell: {problem}.", hint="%bacalhau doctor says more.")
    return available.local, fitted(available.local, options, language, strict, limited, allowed)


def _has_container(target: Target) -> bool:
    return bool(target.container) and not target.container.startswith("none")


def _fit_interpreter(fit: _Fit, target: Target, language: Language) -> None:
    """A chosen image needs a container engine; without one the language's program must be on this machine."""
    if fit.options.image is not None:
        if not _has_container(target):
            reason = target.container.partition(": ")[2] or "docker and podman were not found"
            hint = "Install docker or podman, leave --image out, or use --runtime bacalhau."
            fit.lacks("image", f"it has no container engine ({reason})", hint, image=None)
        return
    missing = target.languages.get(language.name, "")
    if missing:
        raise OptionError(f"{language.name} can't run on the local node: {missing.rstrip('.')}.", option="lang")


def _in_container(fit: _Fit, target: Target) -> bool:
    return fit.options.image is not None and _has_container(target)


def _fit_isolation(fit: _Fit, target: Target) -> None:
    """Files, network and the limits that only some executors keep."""
    if _in_container(fit, target):
        if fit.options.network == "http":
            fit.lacks("network", "it has no gateway that filters by domain", "Use --network none or full.", network="none", domain=())
        return
    executor = target.executor or "process"
    why = target.executor_why.rstrip(".") or f"its executor is {executor}"

    def kept(limit: str) -> bool:
        return target.limits.get(limit, _marks.LIMIT_NONE) != _marks.LIMIT_NONE

    isolated = kept("files")
    if fit.options.sandbox and not isolated:
        hint = "Install bubblewrap (Linux), docker or podman, or use --runtime bacalhau."
        fit.lacks("sandbox", f"cells are not isolated there ({why})", hint, sandbox=False)
    if fit.options.network == "http":
        hint = "Use --network none or full, or --runtime bacalhau."
        fit.lacks("network", "it has no gateway that filters by domain", hint, network="none", domain=())
        fit.say("The local node can't filter the network by domain; the configured network is left out.")
    if fit.options.network == "none" and not kept("network"):
        hint = "Leave --network out, use --network full, or use --runtime bacalhau."
        fit.lacks("network", f"the executor {executor} can't close the network ({why})", hint, network="full")
    if not isolated or not kept("network"):
        fit.say(f"{NOT_ISOLATED}: {why}." if not isolated else f"Network open: {why}.")
    for name, limit in (("cpu", "cpu"), ("memory", "memory"), ("disk", "disk")):
        if not kept(limit) and name in fit.limited:
            raise ConfigError(
                f"A policy limits {name}, and the executor {executor} of the local node can't keep that ({why}).", setting=name
            )
        if not kept(limit) and getattr(fit.options, name) is not None:
            unkept = {"disk": None} if name == "disk" else {}
            fit.lacks(name, f"the executor {executor} can't limit it ({why})", "Leave it out, or use --runtime bacalhau.", **unkept)
    if target.limits.get("cpu") == _marks.LIMIT_AFFINITY and "cpu" in fit.options.asked and fit.options.cpu % 1:
        fit.say(f"--cpu {fit.options.cpu:g}: the local node gives whole CPUs, the fraction is not enforced.")


def _fit_secrets_here(fit: _Fit, target: Target) -> None:
    """The embedded node takes secrets beside the spec, over its own door alone."""
    if not fit.options.secret:
        return
    if not target.endpoint.socket:
        fit.lacks("secret", "secrets go over its unix socket, and it is reached by another door", "Use --runtime local.")
    if fit.options.secret_in_spec:
        fit.lacks("secret_in_spec", "secrets stay out of the spec there", "Leave it out.", secret_in_spec=False)


_FORWARDS = (1, 6, 4)
"""The first version that gives a job a variable of the node's own, `env:NAME`."""


def _fit_secrets(fit: _Fit, target: Target) -> None:
    """A cluster's spec has no place for a secret: its nodes bring their own value, or it goes in clear where that is asked for."""
    options = fit.options
    if not options.secret or options.secret_in_spec:
        return
    version = BuildVersion(git_version=target.version).number
    in_clear = "--secret-in-spec sends the value in clear, for whoever may read the job."
    if version is None or version < _FORWARDS:
        told = f"its version is {target.version}" if version else "its version can't be read"
        fit.lacks("secret", f"servers take a secret from the node's own environment from 1.6.4 on, and {told}", in_clear)
    if odd := next((name for name in options.secret if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name)), ""):
        fit.lacks("secret", f"servers want capital letters, digits and _ in a name, not {odd}", f"Name it {odd.upper()}. {in_clear}")
    names = ", ".join(options.secret)
    fit.say(f"{names}: the node's own value is used, where its operator allows that (Compute.Env.AllowList); yours is not sent.")


def _fit_packages(fit: _Fit, target: Target) -> None:
    """Packages come over the network: here in a phase of their own, elsewhere over the job's own network."""
    options = fit.options
    if not options.pip:
        return
    if target.is_local and not _in_container(fit, target):
        if options.network == "none":
            fit.say("The local node installs the packages before the cell runs; the cell itself has no network.")
        return
    if options.network == "none":
        # Which nodes have the gateway of `http`, no server tells; and the index's address is none of a spec's.
        fit.lacks("network", "the packages come over the network", "Choose an --image that has the packages.", network="full")
        options = fit.options
    domains = f" ({', '.join(options.domain)})" if options.network == "http" else ""
    fit.say(f"The job installs packages: its network is {options.network}{domains}.")


def _fit_publisher(fit: _Fit, target: Target) -> None:
    if fit.options.publisher is not None and target.nodes:
        kind, there = publisher(fit.options.publisher)[0], target.publishers - {"noop"}
        if kind not in there:
            listed = ", ".join(sorted(there)) or "none"
            fit.lacks("publisher", f"no node there has the publisher {kind}", f"They have: {listed}.", publisher=None)
    if fit.options.files is not None and target.nodes and not target.publishers:
        fit.lacks("files", "no node there publishes files", "Return the content as a value instead.", files=None)


def _fit_streams(fit: _Fit, target: Target) -> None:
    """The Bacalhau CLI prints a job's two streams as one."""
    if not target.endpoint.cli:
        return
    for name in ("stdout", "stderr"):
        if getattr(fit.options, name):
            fit.lacks(name, "the Bacalhau CLI prints a job's two streams as one", "Leave BACALHAU_MAGIC_TRANSPORT out.", **{name: None})
    fit.say(ONE_STREAM)


def _fit_amounts(fit: _Fit, target: Target) -> None:
    """CPU, memory and disk above what the biggest node has: cut, or refused where asked for."""
    capacities = [amounts for node in target.nodes if (amounts := capacity(node))]
    for name in ("cpu", "memory", "disk"):
        wanted = getattr(fit.options, name)
        most = max((amounts[name] for amounts in capacities if name in amounts), default=0)
        if not most or wanted is None or wanted <= most:
            continue
        shown = f"{most:g}" if name == "cpu" else _round(int(most))
        asked = f"{wanted:g}" if name == "cpu" else size_text(wanted)
        owner = "this machine has" if target.is_local else "its biggest node has"
        fit.lacks(name, f"{owner} {shown}, not {asked}", f"Ask for at most {shown}.", **{name: most if name == "cpu" else int(most)})
        fit.say(f"{name} is cut from {asked} to {shown}, the most that {fit.where} has.")


def _round(count: int) -> str:
    """Bytes rounded down to what a person would type."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if count >= factor:
            return f"{int(count * 10 / factor) / 10:g}{unit}"
    return size_text(count)


def _fit_gpu(fit: _Fit, target: Target) -> None:
    """The wanted GPUs must be on one node that was reported; which node is then chosen by its label, where it matters."""
    options = fit.options
    if not options.gpu_count:
        return
    wanted = Wanted(options.gpu_count, options.gpu_model, options.gpu_vendor or "")
    name = "gpu_vendor" if wanted.vendor and not wanted.model and "gpu_vendor" in options.asked else "gpu"
    if not target.nodes:
        if wanted.is_choosy:
            fit.lacks(name, "its nodes can't be read, so that no model can be chosen", f"Ask for --gpu {wanted.count}.", **_any_gpu(wanted))
            fit.say(f"Any GPU is taken instead of {wanted}: the nodes can't be read.")
        return
    able = [node for node in target.nodes if _gpus.is_connected(node) and _gpus.can_give(node, wanted)]
    if not able:
        name = "gpu" if "gpu" in options.asked or "gpu_vendor" not in options.asked else "gpu_vendor"
        has = "this machine has" if target.is_local else "its nodes have"
        reason = f"{wanted} on one node is wanted, and {has}: {_gpus.listing(target.nodes, wanted)}"
        fit.lacks(name, reason, "Ask for what one node has, or leave --gpu out.", gpu=None, gpu_vendor=None)
        fit.say(f"The configured GPU is left out: {fit.where} has no {wanted}.")
        return
    if target.is_local or not wanted.is_choosy:
        return
    chosen = _gpus.constraint(able, target.nodes, wanted)
    if chosen is None:
        fit.lacks(name, "its nodes' labels don't tell these GPUs from others", "Choose a node with --constraints.", **_any_gpu(wanted))
        fit.say(f"Any GPU is taken instead of {wanted}: the nodes' labels don't tell them apart.")
    elif chosen:
        fit.options = fit.options.with_values(constraints=(*options.constraints, *chosen))


def _any_gpu(wanted: Wanted) -> dict[str, str | None]:
    return {"gpu": str(wanted.count), "gpu_vendor": None}


def _fit_constraints(fit: _Fit, nodes: tuple[NodeState, ...]) -> None:
    """Constraints are looked at here for the local node only: on a cluster nodes come and go."""
    if not nodes:
        return
    for constraint in fit.options.constraints:
        if not any(holds(constraint, node.info.labels) for node in nodes):
            text = spelled(constraint)
            fit.lacks("constraints", f"its labels don't meet {text}", "Use --runtime bacalhau.", constraints=())
            fit.say(f"The configured constraint {text} is left out on the local node.")
            return
