"""A real S3 server in a process of its own: moto's, on loopback.

What is put there with an age was written that long ago; in the bucket STRICT a signature is for one method alone, as on AWS.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "staging-key-id", "AWS_SECRET_ACCESS_KEY": "staging-secret-key", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "staging-bucket"
STRICT = "strict-bucket"
_SERVER = """
import datetime, sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.s3.models import FakeKey
from moto.server import main

shown = FakeKey.last_modified_ISO8601.fget

def aged(key):
    now = key.last_modified
    key.last_modified = now - datetime.timedelta(seconds=int(key.metadata.get("x-amz-meta-age", 0)))
    try:
        return shown(key)
    finally:
        key.last_modified = now

FakeKey.last_modified_ISO8601 = property(aged)
answer = DomainDispatcherApplication.__call__

def strict(self, environ, start):
    head = environ["REQUEST_METHOD"] == "HEAD" and "X-Amz-Signature" in environ["QUERY_STRING"]
    if head and environ["PATH_INFO"].startswith("/strict-bucket/"):
        start("403 Forbidden", [("Content-Length", "0")])
        return [b""]
    return answer(self, environ, start)

DomainDispatcherApplication.__call__ = strict
main(sys.argv[1:])
"""


@dataclass
class S3:
    """The server; `client` is boto3's."""

    url: str
    client: Any

    @property
    def setting(self) -> str:
        return f"s3://{BUCKET}/inputs?endpoint={self.url}"

    def objects(self) -> dict[str, Any]:
        """Key → when it was last written."""
        return {one["Key"]: one["LastModified"] for one in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])}

    def put(self, key: str, days: int = 0) -> None:
        """Have an object that was written some days ago."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=b"x", Metadata={"age": str(days * 86400)})

    def requests(self, verb: str) -> int:
        """How many objects were written or copied since the start, by the versions that the bucket keeps."""
        return len(self.client.list_object_versions(Bucket=BUCKET).get(verb, []))


@contextmanager
def s3() -> Iterator[S3]:
    """The server with one bucket, that keeps every version."""
    import boto3

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **KEYS},
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process)
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield S3(url, client)
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(0.1)
        else:
            return
