"""The parts of Kubernetes as daemons: their configuration files and command lines.

Nothing here asks for CAP_SYS_RESOURCE, so that all of it runs inside a container or a small virtual
machine too.
"""

import json
import secrets
from collections.abc import Callable
from typing import Any

import yaml

from tests.cluster.harness.layout import API_PORT, NODE, POD_RANGE, S3_PORT, SERVICE_RANGE
from tests.cluster.harness.programs import CNI, module_folder, run
from tests.cluster.harness.sandbox import Sandbox

S3_ACCESS_KEY, S3_SECRET_KEY = "testkey", "testsecret"
SOCKET = "/run/containerd/containerd.sock"
PAUSE = "localhost/pause:1"
CONTAINERD = f"""
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
base_runtime_spec = '{{etc}}/runtime-spec.json'
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{CNI}']
conf_dir = '{{etc}}/cni'
"""
BRIDGE = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_RANGE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
ADMINISTRATORS = "system:masters"
KEYS = """
set -e
openssl genrsa -out service-account.key 2048
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=ca -keyout ca.key -out ca.crt
openssl req -newkey rsa:2048 -nodes -subj /CN=proxy -keyout proxy.key -out proxy.csr
openssl x509 -req -days 3650 -in proxy.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out proxy.crt
"""
"""Keys of service accounts, and of the API server before Kueue's visibility API."""


def write_configuration(box: Sandbox) -> None:
    """Write what the daemons read when they start."""
    etc = box.layout.folder / "etc"
    token = secrets.token_hex(16)
    (etc / "tokens.csv").write_text(f'{token},admin,admin,"{ADMINISTRATORS}"\n')
    run(["sh", "-c", f"cd {etc} && {KEYS}"], log=box.layout.log("keys"))
    box.layout.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(box, token)))
    box.layout.kubeconfig.chmod(0o600)
    (etc / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(box)))
    (etc / "containerd.toml").write_text(CONTAINERD.format(etc=etc))
    (etc / "cni").mkdir()
    (etc / "cni" / "bridge.conflist").write_text(json.dumps(BRIDGE))
    (etc / "resolv.conf").write_text(f"nameserver {box.address}\n")
    (etc / "Corefile").write_text(
        f".:53 {{\n  bind {box.address}\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n"
        f"    kubeconfig {box.layout.kubeconfig}\n  }}\n}}\n"
    )
    spec = json.loads(run(["ctr", "oci", "spec"]))
    spec["process"].pop("rlimits", None)  # raising a limit needs CAP_SYS_RESOURCE
    (etc / "runtime-spec.json").write_text(json.dumps(spec))


def _kubeconfig(box: Sandbox, token: str) -> dict[str, Any]:
    # The API server signs its own certificate on its first start, in this folder.
    cluster = {
        "server": f"https://{box.address}:{API_PORT}",
        "certificate-authority": str(box.layout.folder / "etc" / "apiserver.crt"),
    }
    context = {"cluster": box.layout.name, "user": "admin", "namespace": "default"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": box.layout.name, "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": box.layout.name, "context": context}],
        "current-context": box.layout.name,
    }


def _kubelet(box: Sandbox) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # Only this machine reaches the namespace.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{box.layout.cgroup}",
        "failCgroupV1": False,
        "oomScoreAdj": 0,
        "clusterDNS": [box.address],
        "clusterDomain": "cluster.local",
        "resolvConf": str(box.layout.folder / "etc" / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "maxPods": 250,
        # The disk belongs to the machine; a full one must not evict what a test watches.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
    }


def _etcd(box: Sandbox) -> list[str]:
    return [
        "etcd",
        "--data-dir=/var/lib/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
    ]


def _apiserver(box: Sandbox) -> list[str]:
    etc = box.layout.folder / "etc"
    return [
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        f"--secure-port={API_PORT}",
        f"--advertise-address={box.address}",
        f"--cert-dir={etc}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--token-auth-file={etc}/tokens.csv",
        "--authorization-mode=RBAC",
        "--allow-privileged",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={etc}/service-account.key",
        f"--service-account-signing-key-file={etc}/service-account.key",
        # For Kueue's visibility API, which is served by Kueue behind this server.
        f"--requestheader-client-ca-file={etc}/ca.crt",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={etc}/proxy.crt",
        f"--proxy-client-key-file={etc}/proxy.key",
    ]


def _controller_manager(box: Sandbox) -> list[str]:
    etc = box.layout.folder / "etc"
    return [
        "kube-controller-manager",
        f"--kubeconfig={box.layout.kubeconfig}",
        f"--service-account-private-key-file={etc}/service-account.key",
        f"--root-ca-file={etc}/apiserver.crt",
        "--leader-elect=false",
    ]


def _scheduler(box: Sandbox) -> list[str]:
    return ["kube-scheduler", f"--kubeconfig={box.layout.kubeconfig}", "--leader-elect=false"]


def _containerd(box: Sandbox) -> list[str]:
    return ["containerd", f"--config={box.layout.folder}/etc/containerd.toml"]


def _kubelet_daemon(box: Sandbox) -> list[str]:
    return [
        "kubelet",
        f"--config={box.layout.folder}/etc/kubelet.yaml",
        f"--kubeconfig={box.layout.kubeconfig}",
        f"--hostname-override={NODE}",
        f"--node-ip={box.address}",
    ]


def _proxy(box: Sandbox) -> list[str]:
    return [
        "kube-proxy",
        f"--kubeconfig={box.layout.kubeconfig}",
        f"--hostname-override={NODE}",
        f"--cluster-cidr={POD_RANGE}",
        "--proxy-mode=iptables",
        # These limits are the machine's, not the namespace's.
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
    ]


def _coredns(box: Sandbox) -> list[str]:
    return ["coredns", f"-conf={box.layout.folder}/etc/Corefile"]


def _kwok(box: Sandbox) -> list[str]:
    stages = module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize/stage"
    files = [*stages.glob("node/fast/node-*.yaml"), *stages.glob("pod/fast/pod-*.yaml")]
    return [
        "kwok",
        f"--kubeconfig={box.layout.kubeconfig}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
        *(f"--config={file}" for file in files),
        f"--config={stages}/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    ]


def _s3(box: Sandbox) -> list[str]:
    (box.layout.folder / "s3").mkdir(exist_ok=True)
    keys = ["--access", S3_ACCESS_KEY, "--secret", S3_SECRET_KEY]
    server = ["versitygw", *keys, "--port", f"{box.address}:{S3_PORT}", "--quiet"]
    return [*server, "posix", str(box.layout.folder / "s3")]


DAEMONS: dict[str, Callable[[Sandbox], list[str]]] = {
    "etcd": _etcd,
    "kube-apiserver": _apiserver,
    "kube-controller-manager": _controller_manager,
    "kube-scheduler": _scheduler,
    "containerd": _containerd,
    "kubelet": _kubelet_daemon,
    "kube-proxy": _proxy,
    "coredns": _coredns,
    "s3": _s3,
    "kwok": _kwok,
}
"""Every daemon by its name, in the order in which they start."""


def start_daemon(box: Sandbox, name: str) -> None:
    """Start one daemon; containerd serves when this returns."""
    box.start(name, DAEMONS[name](box))
    if name == "containerd":
        box.run(["timeout", "60", "sh", "-c", "until ctr version; do sleep 0.1; done"])
