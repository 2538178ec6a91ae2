"""Inputs that are too large for a job, by a real S3 server to an embedded node behind a front door, from a real kernel."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway import Gateway, gateway
from kernels import Kernel, start
from store import BUCKET, KEYS, S3, STRICT, s3

from bacalhau_magic.node import _daemon

KEY = "staging-front-door-key"
ARRAY = "import numpy as np\nx = np.random.default_rng(1).random(400_000)"
"""3.2 MB that don't get smaller when packed."""


@pytest.fixture(scope="module")
def store() -> Iterator[S3]:
    with s3() as found:
        yield found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Gateway]:
    with gateway(_daemon.environment(), f"Bearer {KEY}") as opened:
        yield opened


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("staging")


@pytest.fixture(scope="module")
def kernel(store: S3, cluster: Gateway, home: Path) -> Iterator[Kernel]:
    """A kernel with a cluster, a store and the store's credentials in its environment."""
    found = start(live=False, folder=home)
    variables = {"BACALHAU_API_URL": cluster.url, "BACALHAU_API_KEY": KEY, "BACALHAU_MAGIC_STAGING": store.setting, **KEYS}
    found.run(f"import os; os.environ.update({variables!r})")
    found.run(ARRAY)
    yield found
    found.stop()


def staged(kernel: Kernel) -> str:
    """What the last job's card says of the store."""
    found = kernel.run("[e.sentence for e in _bacalhau.events if type(e).__name__ == 'Noticed' and 'Large' in e.sentence]").value
    return str(eval(str(found))[0])


def test_a_large_array_goes_by_the_store_and_once(kernel: Kernel, store: S3, cluster: Gateway) -> None:
    """An array that no job has room for arrives whole; sent again, also under another name, it is not uploaded again."""
    before = store.requests("Versions")
    ran = kernel.run("%%bacalhau -i x -o total,kind\ntotal, kind = float(x.sum()), (x.dtype.str, x.shape)")
    assert ran.error is None, ran.text
    assert kernel.run("total == float(x.sum()), kind").value == "(True, ('<f8', (400000,)))"
    assert staged(kernel) == f"Large inputs go by s3://{BUCKET}/inputs (sent: x)."
    assert store.requests("Versions") == before + 1
    ran = kernel.run("%%bacalhau -i x\nlen(x)")
    assert ran.value == "400000"
    assert "there already: x" in staged(kernel)
    assert store.requests("Versions") == before + 1
    kernel.run("same = x.copy()")
    ran = kernel.run("%%bacalhau -i same\nlen(same)")
    assert ran.value == "400000"
    assert "there already: same" in staged(kernel)
    assert len({key.split("/")[2] for key in store.objects()}) == 1


def test_the_addresses_need_no_credentials_and_expire(kernel: Kernel, store: S3) -> None:
    """The spec has a signed address with an end, and neither key nor secret; shown, also the signature is left out."""
    kernel.run("%%bacalhau -i x\nlen(x)")
    shown = kernel.run("%bacalhau spec last").text
    assert f"{store.url}/{BUCKET}/inputs/" in shown
    assert "?…(signed)" in shown
    assert "Signature=" not in shown
    spec = kernel.run(
        "__import__('json').dumps(__import__('bacalhau_magic')._session.session().client(_bacalhau.ref.endpoint).job(_bacalhau.id, inputs=True).wire())"
    ).text
    expires = re.search(r"X-Amz-Expires=(\d+)", spec)
    assert expires
    assert 3600 < int(expires[1]) <= 7 * 86400
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in spec + shown


def test_files_and_folders(kernel: Kernel, store: S3, home: Path) -> None:
    """A large file, and the large ones of a folder, arrive in their places beside the small ones, in every language."""
    noise = os.urandom(900_000)
    (home / "data/deep").mkdir(parents=True)
    (home / "data/small.txt").write_text("small")
    (home / "data/deep/noise.bin").write_bytes(noise)
    (home / "big.bin").write_bytes(noise[::-1])
    line = "-i ./data -i ./big.bin"
    code = (
        "from pathlib import Path\n"
        "[Path(p).read_bytes().hex()[:20] for p in ('inputs/data/deep/noise.bin', 'inputs/big.bin', 'inputs/data/small.txt')]"
    )
    ran = kernel.run(f"%%bacalhau {line}\n{code}")
    assert ran.error is None, ran.text
    assert eval(str(ran.value)) == [noise.hex()[:20], noise[::-1].hex()[:20], b"small".hex()]
    ran = kernel.run("%%bacalhau --lang bash -i ./data -o sums\ncd inputs/data && sha256sum deep/noise.bin | cut -c1-64")
    assert ran.error is None, ran.text
    import hashlib

    assert kernel.run("sums").value == repr(hashlib.sha256(noise).hexdigest() + "\n")


@pytest.mark.bubblewrap
def test_targets_of_their_own(kernel: Kernel, home: Path) -> None:
    """A large file and a folder with one, each with a place of its own, lie there in the job."""
    noise = os.urandom(700_000)
    (home / "own").mkdir()
    (home / "own/noise.bin").write_bytes(noise)
    (home / "own/small.txt").write_text("small")
    (home / "single.bin").write_bytes(noise[::-1])
    line = "-i ./own=/work/own -i ./single.bin=/work/other.bin"
    ran = kernel.run(
        f"%%bacalhau {line} -o found --lang bash\ncd /work && cat own/small.txt && wc -c < own/noise.bin && head -c 4 other.bin | od -An -tx1"
    )
    assert ran.error is None, ran.text
    assert str(eval(str(kernel.run("found").value))).split() == ["small700000", *(f"{byte:02x}" for byte in noise[::-1][:4])]


def test_a_progress_of_bytes(kernel: Kernel) -> None:
    """While it uploads, the events say how many bytes of how many are there."""
    kernel.run("y = np.random.default_rng(2).random(1_000_000)")
    ran = kernel.run("%%bacalhau -i y\nlen(y)")
    assert ran.value == "1000000", ran.text
    steps = eval(str(kernel.run("[(e.done, e.total) for e in _bacalhau.events if type(e).__name__ == 'Transferred']").value))
    assert steps[-1][0] == steps[-1][1] > 8_000_000
    assert steps == sorted(steps)


@pytest.mark.parametrize("place", ["", "/old"], ids=["a whole bucket", "a prefix"])
def test_what_lies_there_too_long_is_removed(kernel: Kernel, store: S3, place: str) -> None:
    """What was staged longer ago than the store keeps it goes with the next input; the user's own, called alike or not, stays."""
    prefix = f"{place}/".lstrip("/")
    own = [f"{prefix}{'1' * 64}/model.bin", f"{prefix}bacalhau-magic/mine.txt", f"others{place}/bacalhau-magic/{'2' * 64}/x.bin"]
    old, young = (f"{prefix}bacalhau-magic/{digit * 64}/x.bin" for digit in "34")
    for key in (old, *own):
        store.put(key, days=3)
    store.put(young, days=1)
    kernel.run(f"%bacalhau config staging=s3://{BUCKET}{place}?endpoint={store.url}&keep=2d")
    ran = kernel.run("%%bacalhau -i x\nlen(x)")
    kernel.run("%bacalhau config staging=")
    assert ran.value == "400000", ran.text
    there = store.objects()
    assert old not in there
    assert {young, *own} <= there.keys()


def test_without_a_store_the_ways_out_are_said(kernel: Kernel, cluster: Gateway, store: S3) -> None:
    """A store that is not there, denies, or has no credentials is a named error before anything is sent."""
    sent = len(cluster.paths("PUT"))
    kernel.run("z = np.random.default_rng(3).random(400_000)")
    kernel.run(f"%bacalhau config staging=s3://no-such-bucket/x?endpoint={store.url}")
    ran = kernel.run("%%bacalhau -i z\nlen(z)")
    assert "there is no such bucket" in ran.text
    kernel.run("%bacalhau config staging=s3://bucket/x?endpoint=http://127.0.0.1:9")
    ran = kernel.run("%%bacalhau -i z\nlen(z)")
    assert ran.error is not None
    assert ran.error[0] == "UnsendableInputError"
    assert "127.0.0.1:9" in ran.text
    kernel.run("%bacalhau config staging=")
    assert len(cluster.paths("PUT")) == sent


def test_what_no_node_could_fetch_is_not_sent(kernel: Kernel, store: S3, cluster: Gateway) -> None:
    """A store whose signatures are for one method alone, and one that removes what a job may still wait for, are refused with the way out."""
    store.client.create_bucket(Bucket=STRICT)
    sent = len(cluster.paths("PUT"))
    kernel.run(f"%bacalhau config staging=s3://{STRICT}/x?endpoint={store.url}")
    ran = kernel.run("%%bacalhau -i x\nlen(x)")
    assert ran.error is not None
    assert "(HEAD)" in ran.error[1]
    assert "status 403" in ran.error[1]
    assert "-i s3://…" in ran.text
    kernel.run(f"%bacalhau config staging=s3://{BUCKET}/brief?endpoint={store.url}&keep=2d")
    for line, reason in {
        "--queue-timeout 47h": "for 2d30m, as long as the job may wait and an hour more, and s3://staging-bucket/brief keeps what is staged for 2d.",
        "--bg --queue-timeout 3d": "for 3d1h30m, as long as the job may wait and an hour more, and s3://staging-bucket/brief keeps what is staged for 2d.",
    }.items():
        ran = kernel.run(f"%%bacalhau {line} -i x\nlen(x)")
        assert ran.error is not None
        assert ran.error[0] == "ConfigError"
        assert reason in ran.error[1]
        assert "keep=7d" in ran.text
    for keep, reason in {"7d": "keeps what is staged for 7d.", "30d": "S3 signs an address for 7d at most."}.items():
        kernel.run(f"%bacalhau config staging=s3://{BUCKET}/brief?endpoint={store.url}&keep={keep}")
        ran = kernel.run("%%bacalhau --queue-timeout 10d -i x\nlen(x)")
        assert ran.error is not None
        assert "for 10d1h30m, " in ran.error[1]
        assert ran.error[1].endswith(f"{reason}\nGive the job a shorter --queue-timeout.")
    kernel.run(f"%bacalhau config staging=s3://{BUCKET}/brief?endpoint={store.url}&keep=2d")
    assert not [key for key in store.objects() if key.startswith("brief/")]
    assert kernel.run("%%bacalhau --bg -i x\nlen(x)").error is None
    assert kernel.run("_bacalhau.result(60)").value == "400000"
    assert kernel.run("%%bacalhau -i x\nlen(x)").value == "400000"
    kernel.run("%bacalhau config staging=")
    assert len(cluster.paths("PUT")) == sent + 2


def test_a_project_s_store_is_used_once_trusted(kernel: Kernel, store: S3, home: Path) -> None:
    """A store that a project names takes nothing until `use --trust`; keys in the project's file are refused."""
    kernel.run("os.environ.pop('BACALHAU_MAGIC_STAGING')")
    file = home / "pyproject.toml"
    file.write_text(f'[tool.bacalhau-magic.staging]\nurl = "s3://{BUCKET}/project"\nendpoint = "{store.url}"\n')
    kernel.run("%bacalhau config poll_interval=5s")
    kernel.run("z = np.random.default_rng(4).random(400_000)")
    kernel.run("%%bacalhau -i z\nlen(z)")
    assert not [key for key in store.objects() if key.startswith("project/")]
    assert f"s3://{BUCKET}/project at {store.url}" in kernel.run("%bacalhau use --trust").text
    assert kernel.run("%%bacalhau -i z\nlen(z)").value == "400000"
    assert [key for key in store.objects() if key.startswith("project/")]
    file.write_text(f'[tool.bacalhau-magic.staging]\nurl = "s3://{BUCKET}/x"\nsecret_key = "s"\n')
    assert "credentials are found as S3's tools find them" in kernel.run("%bacalhau config poll_interval=6s").text
    file.unlink()


def test_an_address_is_fetched_by_the_node_and_asked_first(kernel: Kernel, store: S3, cluster: Gateway) -> None:
    """An https input lies in the job under its name; one that does not answer is refused by name before anything is sent."""
    store.client.put_object(Bucket=BUCKET, Key="open/table.csv", Body=b"a,b\n1,2\n", ACL="public-read")
    ran = kernel.run(f"%%bacalhau -i t={store.url}/{BUCKET}/open/table.csv\nopen('inputs/t/table.csv').read()")
    assert ran.value == "'a,b\\n1,2\\n'", ran.text
    sent = len(cluster.paths("PUT"))
    ran = kernel.run(f"%%bacalhau -i t={store.url}/{BUCKET}/open/gone.csv?secret=right\n1")
    assert ran.error is not None
    assert "answers with status 40" in ran.text
    assert "secret=right" not in ran.text.replace("%%bacalhau", "")
    assert "can't be reached" in kernel.run("%%bacalhau -i t=http://127.0.0.1:9/x\n1").text
    assert "can't fetch s3://" in kernel.run("%%bacalhau -i s3://bucket/key\n1").text
    assert len(cluster.paths("PUT")) == sent
