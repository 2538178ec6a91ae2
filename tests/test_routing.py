"""Which target a cell goes to, and what is cut or refused on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bacalhau_magic import _argspec as argspec
from bacalhau_magic._languages import BUILT_IN
from bacalhau_magic._routing import NOT_ISOLATED, choose, fitted
from bacalhau_magic._stages import Availability, Endpoint, Route, Target
from bacalhau_magic._wire import NodeState
from bacalhau_magic.errors import ConfigError, OptionError

ALL_KEPT = dict.fromkeys(("files", "network", "memory", "cpu", "disk", "processes", "time"), "enforced")
PROCESS = {**ALL_KEPT, **dict.fromkeys(("files", "network", "disk", "processes"), "not available"), "memory": "watched"}


def node(name: str = "n-1", *, cpu: float = 4, memory: int = 8 * 10**9, gpus: tuple[tuple[str, str], ...] = (), **labels: str) -> NodeState:
    """A node as a server reports it."""
    capacity: dict[str, Any] = {"CPU": cpu, "Memory": memory, "Disk": 10**11}
    if gpus:
        capacity |= {"GPU": len(gpus), "GPUs": [{"Name": model, "Vendor": vendor} for model, vendor in gpus]}
    compute = {"MaxCapacity": capacity, "MaxJobRequirements": capacity, "ExecutionEngines": ["docker"], "Publishers": ["local"]}
    tags = {key.replace("_", "-"): value for key, value in labels.items()}
    return NodeState.model_validate({"Info": {"NodeID": name, "Labels": tags, "ComputeNodeInfo": compute}})


URL = "https://cluster.example:1234"
LOCAL = Target(
    "local",
    Endpoint("http://localhost", socket="/run/s"),
    executor="bubblewrap",
    container="none: not found",
    limits=ALL_KEPT,
    nodes=(node(),),
)
BARE = replace(LOCAL, executor="process", executor_why="bubblewrap was not found", limits=PROCESS)
REMOTE = Target("bacalhau", Endpoint(URL), nodes=(node("n-a"), node("n-b", cpu=16, memory=64 * 10**9)))

NOTHING = Availability(local=LOCAL)
ANSWERS = Availability(local=LOCAL, remote=REMOTE, remote_endpoint=REMOTE.endpoint)
SILENT = Availability(local=LOCAL, remote_endpoint=REMOTE.endpoint, remote_problem="the endpoint did not answer within 5 s")
UNTRUSTED = Availability(local=LOCAL, untrusted_url="https://odd.example")


def go(line: str, available: Availability, *, configured: dict[str, Any] | None = None, **more: Any) -> Route:
    options = argspec.parse(line).over(configured or {})
    return choose(options, BUILT_IN[options.lang], available, **more)


@pytest.mark.parametrize(
    ("row", "line", "available", "place"),
    [
        (1, "--runtime bacalhau", replace(ANSWERS, enabled=False), "BACALHAU_ENABLED=false"),
        (2, "--runtime bacalhau", ANSWERS, "bacalhau"),
        (3, "--runtime bacalhau --fallback", SILENT, "local"),
        (3, "--runtime bacalhau", SILENT, "did not answer within 5 s"),
        (3, "--runtime bacalhau", NOTHING, "no endpoint is configured"),
        (4, "--runtime local", ANSWERS, "local"),
        (4, "--runtime local --gpu 1", replace(ANSWERS, local=replace(LOCAL, nodes=(node(gpus=(("T4", "NVIDIA"),)),))), "local"),
        (4, "--runtime local --image x", replace(ANSWERS, local=replace(LOCAL, container="docker")), "local"),
        (5, "--runtime local --gpu 1", ANSWERS, "--gpu can't be kept on the local node"),
        (5, "--runtime local --sandbox", replace(ANSWERS, local=BARE), "cells are not isolated"),
        (5, "--runtime local --image x", ANSWERS, "no container engine"),
        (5, "--runtime local", Availability(local_problem="no disk space"), "no disk space"),
        (6, "", NOTHING, "local"),
        (6, "", replace(ANSWERS, enabled=False), "local"),
        (7, "--gpu 1", NOTHING, "BACALHAU_API_URL"),
        (8, "", UNTRUSTED, "https://odd.example"),
        (9, "", replace(ANSWERS, prefer="local"), "local"),
        (9, "--sandbox", replace(ANSWERS, prefer="local"), "local"),
        (10, "--long", replace(ANSWERS, prefer="local"), "bacalhau"),
        (10, "--sandbox --timeout 6m", replace(ANSWERS, prefer="local"), "bacalhau"),
        (10, "--image x", replace(ANSWERS, prefer="local"), "bacalhau"),
        (10, "", ANSWERS, "bacalhau"),
        (11, "", SILENT, "did not answer within 5 s"),
        (11, "--fallback", SILENT, "local"),
    ],
)
def test_row(row: int, line: str, available: Availability, place: str) -> None:
    """Each row of the routing table goes where it says, or names what is missing."""
    if place in ("local", "bacalhau"):
        route = go(line, available)
        assert route.target.name == place
        assert route.why
    else:
        with pytest.raises((ConfigError, OptionError)) as caught:
            go(line, available)
        assert place in str(caught.value)


def test_fallback_is_said() -> None:
    """A fallback stands on the card with its reason."""
    assert go("--fallback", SILENT).notices[0] == "Ran here instead: the endpoint did not answer within 5 s."


def test_untrusted_endpoint_says_how_to_trust() -> None:
    """A project's untrusted endpoint is named together with the command that trusts it."""
    with pytest.raises(ConfigError) as caught:
        go("", UNTRUSTED)
    assert "%bacalhau use --trust" in caught.value.hint
    assert go("--runtime local", UNTRUSTED).target.is_local


def test_route_carries_the_effective_options() -> None:
    """What fits is left as it was asked."""
    options = argspec.parse("--cpu 2 --memory 1GB")
    assert choose(options, BUILT_IN["python"], NOTHING).options == options


def test_default_cpu_and_memory_are_cut() -> None:
    """Built-in and configured CPU and memory are cut to the machine's, and configured ones are said."""
    small = replace(LOCAL, nodes=(node(cpu=0.5, memory=10**9),))
    route = go("", Availability(local=small), configured={"cpu": 8.0})
    assert (route.options.cpu, route.options.memory) == (0.5, 10**9)
    assert route.notices == (
        "cpu is cut from 8 to 0.5, the most that the local node has.",
        "memory is cut from 2GB to 1GB, the most that the local node has.",
    )
    assert route.options.asked == frozenset()


@pytest.mark.parametrize(
    ("line", "reason"), [("--cpu 5", "has 4, not 5"), ("--memory 9GB", "has 8GB, not 9GB"), ("--disk 1TB", "has 100GB, not 1TB")]
)
def test_asked_amount_above_the_machine_is_refused(line: str, reason: str) -> None:
    """An asked amount above the machine's is refused with both numbers."""
    with pytest.raises(OptionError) as caught:
        go(line, NOTHING)
    assert reason in caught.value.message
    assert caught.value.option == line.split()[0][2:]


def test_cluster_takes_what_its_biggest_node_has() -> None:
    """On a cluster the biggest node counts; without a node list nothing is refused."""
    assert go("--cpu 16 --memory 60GB", ANSWERS).options.cpu == 16
    with pytest.raises(OptionError, match="its biggest node has 16, not 17"):
        go("--cpu 17", ANSWERS)
    unknown = replace(ANSWERS, remote=replace(REMOTE, nodes=()))
    assert go("--cpu 17 --gpu 4 --files out", unknown).options.cpu == 17


def test_strict_makes_a_configured_value_refuse() -> None:
    """A configured value that `strict` names is refused instead of being cut."""
    with pytest.raises(OptionError, match="--cpu can't be kept"):
        go("", NOTHING, configured={"cpu": 8.0}, strict={"cpu"})


def test_not_isolated_is_said() -> None:
    """Without an executor that isolates the first cell runs, and the card says what is missing."""
    route = go("", Availability(local=BARE))
    assert route.notices == (f"{NOT_ISOLATED}: bubblewrap was not found.",)
    assert route.options.network == "full"
    assert go("", NOTHING).notices == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("--network none", "the executor process can't close the network (bubblewrap was not found)"),
        ("--disk 1GB", "the executor process can't limit it"),
        ("--sandbox", "not isolated"),
    ],
)
def test_asked_limit_that_is_not_available_is_refused(line: str, reason: str) -> None:
    """A limit on the line that the executor can't keep is refused, naming executor and reason."""
    with pytest.raises(OptionError) as caught:
        go(line, Availability(local=BARE))
    assert reason in caught.value.message
    assert caught.value.option == line.split()[0][2:]
    assert go(line, NOTHING).target is LOCAL


def test_domains_need_a_cluster() -> None:
    """The local node has no gateway: an asked network http is refused, a configured one is closed instead."""
    with pytest.raises(OptionError, match="filters by domain"):
        go("--network http --domain x.org", NOTHING)
    route = go("", NOTHING, configured={"network": "http", "domain": ("x.org",)})
    assert (route.options.network, route.options.domain) == ("none", ())
    assert route.notices
    assert go("--network http --domain x.org", ANSWERS).options.domain == ("x.org",)


def test_fraction_of_a_cpu_is_said() -> None:
    """Where only whole CPUs are given, an asked fraction gets a notice."""
    affinity = replace(LOCAL, limits={**ALL_KEPT, "cpu": "affinity"})
    assert "fraction is not enforced" in go("--cpu 0.5", Availability(local=affinity)).notices[0]
    assert go("--cpu 2", Availability(local=affinity)).notices == ()


def test_missing_interpreter_says_what_to_install() -> None:
    """A language whose program is missing here says what to install, unless an image brings it."""
    target = replace(LOCAL, languages={"javascript": "install Node.js 18 or pip install bacalhau_magic[nodejs]"}, container="docker")
    with pytest.raises(OptionError, match=r"javascript can't run on the local node: install Node.js 18"):
        go("--lang javascript", Availability(local=target))
    assert go("--lang javascript --image node:20", Availability(local=target)).target is target


A100 = node("n-a100", gpus=(("NVIDIA A100-SXM4", "NVIDIA"),) * 2, GPU_0="NVIDIA-A100-SXM4")
T4 = node("n-t4", gpus=(("Tesla T4", "NVIDIA"),) * 4, GPU_0="Tesla-T4")
AMD = node("n-amd", gpus=(("MI300X", "AMD/ATI"),), GPU_0="MI300X")


def cluster(*nodes: NodeState) -> Availability:
    return replace(ANSWERS, remote=replace(REMOTE, nodes=nodes))


@pytest.mark.parametrize("line", ["--gpu 4", "--gpu A100:2", "--gpu t4", "--gpu 1 --gpu-vendor amd", "--gpu a100-sxm4 --gpu-vendor nvidia"])
def test_gpu_that_a_node_has(line: str) -> None:
    """A number, model or vendor that one node has is taken."""
    assert go(line, cluster(node(), A100, T4, AMD)).options.gpu_count


@pytest.mark.parametrize("line", ["--gpu 5", "--gpu A100:3", "--gpu H100", "--gpu 1 --gpu-vendor intel", "--gpu T4 --gpu-vendor amd"])
def test_gpu_that_no_node_has(line: str) -> None:
    """GPUs that no single node has are refused, saying what the nodes have."""
    with pytest.raises(OptionError) as caught:
        go(line, cluster(A100, T4, AMD))
    assert "n-t4 4 × Tesla T4" in caught.value.message
    assert caught.value.option == "gpu"


def test_gpu_model_becomes_a_constraint() -> None:
    """Where other nodes have other GPUs, the model is chosen by the nodes' own label; else nothing is added."""
    assert go("--gpu A100 --constraints region=eu", cluster(A100, T4)).options.constraints == (
        ("region", "=", ("eu",)),
        ("GPU-0", "in", ("NVIDIA-A100-SXM4",)),
    )
    assert go("--gpu A100", cluster(A100, node())).options.constraints == ()


def test_gpu_model_without_labels() -> None:
    """A model that can't be told from others by labels is refused."""
    bare = node("n-x", gpus=(("NVIDIA A100-SXM4", "NVIDIA"),))
    with pytest.raises(OptionError, match="labels don't tell"):
        go("--gpu A100", cluster(bare, T4))


def test_default_gpus_are_for_bacalhau_only() -> None:
    """BACALHAU_GPU_ENABLED's GPUs go into a job for Bacalhau, not into a local one, and --gpu beats them."""
    assert go("", cluster(T4), remote_gpu="2").options.gpu == "2"
    assert go("--gpu 1", cluster(T4), remote_gpu="2").options.gpu == "1"
    assert go("", NOTHING, remote_gpu="2").options.gpu is None
    route = go("", cluster(node()), remote_gpu="2")
    assert route.options.gpu is None
    assert "left out" in route.notices[0]


def test_files_need_a_publisher() -> None:
    """--files is refused where no node publishes."""
    silent = NodeState.model_validate({"Info": {"NodeID": "n", "ComputeNodeInfo": {"ExecutionEngines": ["docker"]}}})
    with pytest.raises(OptionError, match="no node there publishes files"):
        go("--files out", cluster(silent))
    assert go("--files out", ANSWERS).options.files == "out"


def test_a_publisher_that_no_node_has() -> None:
    """--publisher is refused where no node has that one, naming those that there are; a configured one is left out."""
    local = NodeState.model_validate(
        {"Info": {"NodeID": "n", "ComputeNodeInfo": {"ExecutionEngines": ["docker"], "Publishers": ["local"]}}}
    )
    with pytest.raises(OptionError, match="no node there has the publisher s3") as refused:
        go("--publisher s3://bucket/key", cluster(local))
    assert refused.value.hint == "They have: local."
    assert go("--publisher local", cluster(local)).options.publisher == "local"
    for wrong in ("ipfs", "noop", "ftp://x/y", "s3:///key", "s3://b/k?secret=1"):
        with pytest.raises(OptionError, match="--publisher"):
            go(f"--publisher '{wrong}'", cluster(local))


@pytest.mark.parametrize(
    ("constraint", "holds"),
    [
        ("region=eu", True),
        ("region=us", False),
        ("region!=us", True),
        ("'region in (eu,us)'", True),
        ("'region notin (eu)'", False),
        ("region", True),
        ("'!region'", False),
        ("'!spot'", True),
        ("'cores > 3'", True),
        ("'cores < 3'", False),
        ("'spot > 1'", False),
    ],
)
def test_constraints_on_the_local_node(constraint: str, holds: bool) -> None:
    """A constraint is held against the local node's labels; an asked one that it does not meet is refused."""
    here = Availability(local=replace(LOCAL, nodes=(node(region="eu", cores="4"),)))
    if holds:
        assert go(f"--constraints {constraint}", here).options.constraints
    else:
        with pytest.raises(OptionError, match="labels don't meet"):
            go(f"--constraints {constraint}", here)


def test_configured_constraint_is_left_out_locally() -> None:
    """A configured constraint that the local node does not meet is left out and said."""
    route = go("", NOTHING, configured={"constraints": (("region", "=", ("eu",)),)})
    assert route.options.constraints == ()
    assert "region = eu" in route.notices[0]


def test_fitting_alone() -> None:
    """`fitted` gives the options in effect on one target, for `%bacalhau spec` and a dry run."""
    fit = fitted(LOCAL, argspec.parse("--cpu 2"), BUILT_IN["python"])
    assert (fit.options.cpu, fit.notices) == (2.0, ())


def test_limit_of_a_policy_must_be_kept() -> None:
    """A policy's limit that the executor can't keep is refused; where it can, the cell runs."""
    with pytest.raises(ConfigError, match="A policy limits disk"):
        go("", Availability(local=BARE), limited={"disk"})
    assert go("", NOTHING, limited={"disk"}).target is LOCAL
