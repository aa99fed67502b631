"""What a person needs to try the suite on a cluster of this machine."""

from typing import Any

import yaml

from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.daemons import S3_ACCESS_KEY, S3_SECRET_KEY
from tests.cluster.harness.layout import BIN, ROOT

BUCKET = "try"
SECRET = "lima-storage"


def prepare(cluster: Cluster) -> str:
    """Make a bucket and a profile that names its server; return the lines to paste into a shell."""
    (cluster.layout.folder / "s3" / BUCKET).mkdir(exist_ok=True)
    profile = cluster.layout.folder / "profile.yaml"
    profile.write_text(yaml.safe_dump(_profile(cluster)))
    variables = {
        "KUBECONFIG": cluster.layout.kubeconfig,
        "PATH": f"{ROOT / '.venv/bin'}:{BIN}:$PATH",
        "PROFILE": profile,
        "AWS_ENDPOINT_URL": cluster.s3_endpoint,
        "AWS_ACCESS_KEY_ID": S3_ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET_KEY,
        "AWS_REGION": "us-east-1",
    }
    return "\n".join(f"export {name}={value}" for name, value in variables.items())


def _profile(cluster: Cluster) -> dict[str, Any]:
    """Return the tests' profile with this cluster's storage."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "k8s/clusters/cpu-test.yaml").read_text())
    document["cluster"]["storage"] = {"endpoint": cluster.s3_endpoint, "secretName": SECRET}
    return document
