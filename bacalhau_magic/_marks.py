"""Our marks on a job, a node and a key: one place that names them, for writer and reader.

A job carries labels (so that a server can find it again) and `Task.Meta` entries (so that it can be collected
without this machine's ledger). The embedded node says in its node labels what its executors keep.
"""

from __future__ import annotations

import hashlib

# Labels of a job; selectable on the server.
REQUEST_LABEL = "bacalhau-magic.request"
NAME_LABEL = "bacalhau-magic.name"
NOTEBOOK_LABEL = "bacalhau-magic.notebook"


def notebook_mark(notebook: str) -> str:
    """NOTEBOOK_LABEL's value for a notebook's key: a hash, because a label shows to everyone on the server."""
    return hashlib.sha256(notebook.encode()).hexdigest()[:16]


# Task.Meta of a job.
META_FORMAT = "bacalhau-magic/format"
META_NONCE = "bacalhau-magic/nonce"
META_LANGUAGE = "bacalhau-magic/language"
META_OUTPUTS = "bacalhau-magic/outputs"
META_AS = "bacalhau-magic/as"
META_MAX_RESULT = "bacalhau-magic/max-result"
META_TIMEOUT = "bacalhau-magic/timeout"
META_INTERPRETER = "bacalhau-magic/interpreter"
"""The submitting kernel's Python. Present only in a job for the embedded node without a chosen image: it makes
the node run the job in its host executor. It never leaves this machine."""
META_SANDBOX = "bacalhau-magic/sandbox"
"""Present ("1") in a job of the embedded node that may run isolated only (`--sandbox`)."""
META_PACKAGES = "bacalhau-magic/packages"
"""Present ("1") in a job that installs packages before its cell: they stand in REQUIREMENTS_FILE."""
META_SECRETS = "bacalhau-magic/secrets"
"""Present in a job with secrets: their names, never a value, joined by commas."""

META_PUBLISH = "bacalhau-magic/publish"
"""Present (PUBLISH_ANY) in a job of the embedded node whose files nobody asked for: they are published if there are any."""
PUBLISH_ANY = "if-any"

PULLING = "Pulling Image"
"""The topic of what the embedded node says in a job's history before it pulls an image; a Bacalhau node says nothing then."""

FORMAT = "1"

# Where the payload lies in the job, and where the job's files go.
INPUTS_PATH = "/inputs"
PAYLOAD_FOLDER = ".bacalhau"
"""The payload's folder below INPUTS_PATH: wrapper, cell, request; hidden from `ls`."""
REQUIREMENTS_FILE = "requirements.txt"
"""The packages to install, in the payload's folder."""
PACKAGES_FOLDER = "packages"
"""An empty folder in the payload's: the embedded node shows there what it has installed already."""
OUTPUTS_PATH = "/outputs"
RESULT_PATH_NAME = "outputs"

# Node labels of the embedded node.
NODE_LOCAL = "bacalhau-magic.local"
"""The package version of an embedded node; its presence tells that a node is one."""
NODE_EXECUTOR = "bacalhau-magic.executor"
"""bubblewrap or process: the host executor in use."""
NODE_EXECUTOR_WHY = "bacalhau-magic.executor-why"
NODE_CONTAINER = "bacalhau-magic.container"
"""docker or podman, or "none: <reason>"."""
NODE_LIMIT = "bacalhau-magic.limit."
"""Prefix; files, network, memory, cpu, disk, processes, time → a word of LIMIT_WORDS."""
NODE_LANGUAGE = "bacalhau-magic.language."
"""Prefix; language → interpreter's version, or "missing: <what to install>"."""
NODE_STAGING = "bacalhau-magic.staging"
NODE_DISK_USED = "bacalhau-magic.disk-used"

LIMITS = ("files", "network", "memory", "cpu", "disk", "processes", "time")
LIMIT_ENFORCED = "enforced"
LIMIT_WATCHED = "watched"
LIMIT_AFFINITY = "affinity"
"""CPU only: whole CPUs by affinity, a fraction is not enforced."""
LIMIT_NONE = "not available"

LOCAL_KEY_PREFIX = "bmlocal-"
"""A key with this prefix is the embedded node's: it routes as local."""
