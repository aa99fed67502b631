"""An S3 server of the cluster, as a test sees it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class S3:
    """An empty bucket, reachable by the same endpoint from pods and from the tests."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str

    @property
    def uri(self) -> str:
        """The bucket as the jobs are given it."""
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it, as variables."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def secret(self, name: str, namespace: str) -> dict[str, object]:
        """Return a Secret with the credentials, for pods."""
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        data = {key: self.environment[key] for key in keys}
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
