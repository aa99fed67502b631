"""`submit` makes all or nothing, and never touches what it did not make."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima.errors import ClusterError, InputError
from lima.recipes.demo import tiny
from lima.spec.codec import run_id
from lima_k8s.cluster.read.api import CONFIGMAPS, RAYJOBS, SECRETS, Kind
from lima_k8s.cluster.read.failures import UnreachableError
from lima_k8s.cluster.read.snapshot import read_runs
from lima_k8s.cluster.submit import admission, removal
from lima_k8s.cluster.submit.admission import require_admission
from lima_k8s.cluster.submit.helm import Helm, InUseError, TakenError
from lima_k8s.cluster.submit.releases import Submission, submit
from lima_k8s.cluster.submit.removal import remove_empty
from lima_k8s.cluster.submit.requirements import require_references
from tests.charts.tools import manifests, template, values
from tests.unit.cluster.test_deletion import (
    CELLS,
    URI,
    HelmInMemory,
    Namespace,
    cluster,
    helm,
    no_sleep,
    stand,
    submitted,
)

__all__ = ["cluster", "helm", "no_sleep"]
Raw = dict[str, Any]
RENDERED = manifests(template("lima-train", values(tiny()[:1], image={"registry": "r.example"})))


def lacking(*names: str) -> Callable[[Namespace, Kind, str], Raw | None]:
    return lambda _, kind, name: None if name in names else {"metadata": {"name": name}}


def rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HelmInMemory, "template", lambda *_: yaml.safe_dump_all(RENDERED))


@pytest.mark.parametrize("name", ["lima", "lima-normal", "storage"])
def test_what_is_missing_is_said_before_anything_is_made(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with_secret = template(
        "lima-train", values(CELLS[:2], storage={"uri": URI, "secretName": "storage"})
    )
    monkeypatch.setattr(HelmInMemory, "template", lambda *_: with_secret)
    monkeypatch.setattr(Namespace, "get", lacking(name))
    monkeypatch.setattr(HelmInMemory, "install", None)  # it would be an error to come there
    with pytest.raises(InputError, match=f"no .* '{name}'"):
        submitted(helm)


def test_what_the_cluster_refuses_it_refuses_before_anything_is_made(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(_: Namespace, kind: Kind, manifest: Raw) -> None:
        asked.append((kind, manifest["metadata"]["name"]))
        raise InputError("no")

    rendering(monkeypatch)
    monkeypatch.setattr(Namespace, "would_take", refuse)
    monkeypatch.setattr(HelmInMemory, "install", None)
    with pytest.raises(InputError, match="no"):
        submitted(helm)
    assert [kind for kind, _ in asked] == [RAYJOBS]


def test_of_runs_that_are_alike_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Asked(Namespace):
        def would_take(self, kind: Kind, manifest: Raw) -> None:
            asked.append(manifest["metadata"]["name"])

    seeds = [replace(CELLS[0], seed=seed) for seed in range(5)]
    text = template("lima-ablation", values(seeds, image={"registry": "r.example"}))
    require_admission(Asked(), manifests(text))
    assert len(asked) == 1
    large = manifests(text)
    next(m for m in large if m["kind"] == "RayJob")["spec"]["backoffLimit"] = 7
    require_admission(Asked(), large)
    assert len(asked) == 3


def test_a_webhook_that_restarts_is_awaited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [UnreachableError("away"), UnreachableError("away"), None]

    class Restarting(Namespace):
        def would_take(self, kind: Kind, manifest: Raw) -> None:
            if error := answers.pop(0):
                raise error

    monkeypatch.setattr(admission, "POLL_S", 0)
    require_admission(Restarting(), RENDERED)
    assert answers == []
    assert capsys.readouterr().err == "waiting: away\n"


def test_everything_that_pods_name_is_asked_for() -> None:
    cluster = {
        "secrets": ["hub"],
        "serviceAccount": "runs",
        "image": {"registry": "r.example", "pullSecrets": ["pull"]},
        "storage": {"uri": URI, "secretName": "storage"},
    }
    documents = manifests(template("lima-train", values(tiny()[:1], **cluster)))
    asked = set()

    class Asked(Namespace):
        def get(self, kind: Kind, name: str) -> Raw | None:
            asked.add((kind.plural, name))
            return {}

    require_references(Asked(), documents)
    assert asked == {
        ("secrets", "hub"),
        ("secrets", "pull"),
        ("secrets", "storage"),
        ("serviceaccounts", "runs"),
    }


def test_a_claim_or_an_optional_secret_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "sets"}},
        {"name": "b", "secret": {"secretName": "maybe", "optional": True}},
    ]
    pod = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"volumes": volumes}}
    monkeypatch.setattr(Namespace, "get", lacking("sets", "maybe"))
    with pytest.raises(InputError, match="no PersistentVolumeClaim 'sets'"):
        require_references(Namespace(), [pod])


def test_a_run_whose_release_failed_to_be_changed_is_left_alone(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a `helm upgrade` of a run that runs, which KubeRay or field owners refuse."""
    submitted(helm)
    before = {run.uid for run in read_runs(helm.cluster)}
    monkeypatch.setattr(HelmInMemory, "state", lambda *_: "failed")
    outcome = submitted(helm)
    assert [left.why for left in outcome.left_out] == ["there already"] * 2
    assert {run.uid for run in read_runs(helm.cluster)} == before
    assert not any(run.deleting for run in read_runs(helm.cluster))


def test_the_second_of_two_equal_submits_says_there_already(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = HelmInMemory.install

    def late(self: HelmInMemory, release: str, chart: Path, given: Raw) -> None:
        if not self.releases:
            usual(self, release, chart, given)  # the other one
            raise InUseError("release: already exists", release)
        usual(self, release, chart, given)

    monkeypatch.setattr(HelmInMemory, "install", late)
    outcome = submitted(helm)
    assert (outcome.submitted, [left.why for left in outcome.left_out]) == (
        [],
        ["there already"] * 2,
    )
    assert len(helm.releases) == 1


def test_a_study_beside_a_run_of_it_that_comes_at_once(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the study made before it met another release's run is taken back; that run stays."""
    usual, uids = HelmInMemory.install, set[str]()

    def meet(self: HelmInMemory, release: str, chart: Path, given: Raw) -> None:
        if uids:
            usual(self, release, chart, given)
            return
        usual(self, "other", chart, {**given, "runs": given["runs"][:1]})
        uids.update(run.uid for run in read_runs(self.cluster))
        [first, second] = given["runs"]
        name = f"{second['arm']}-s{second['seed']}"
        self.cluster.objects["rayjobs", name] = self.rayjob(release, name, second, URI)
        raise TakenError(f'configmaps "{first["arm"]}" already exists')

    monkeypatch.setattr(HelmInMemory, "install", meet)
    outcome = submitted(helm)
    assert {run_id(cell) for cell in outcome.submitted} == {run_id(CELLS[1])}
    assert [left.run.release for left in outcome.left_out] == ["other"]
    assert stand(helm.cluster) == {run_id(cell) for cell in CELLS[:2]}
    assert uids <= {run.uid for run in read_runs(helm.cluster) if not run.deleting}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ClusterError])
def test_what_is_interrupted_is_taken_back(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    usual = HelmInMemory.install

    def interrupted(self: HelmInMemory, release: str, chart: Path, given: Raw) -> None:
        usual(self, release, chart, given)
        raise error

    monkeypatch.setattr(HelmInMemory, "install", interrupted)
    submission = Submission("ablation", CELLS[:2], {"storage": {"uri": URI}})
    with pytest.raises(error):
        submit(submission, lambda: helm.cluster, helm)
    assert stand(helm.cluster) == set()


def test_releases_without_runs_go_with_all_runs(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    charts = {"empty": "lima-train-0.1.0", "theirs": "nginx-1.0.0", "held": "lima-judge-0.1.0"}
    monkeypatch.setattr(HelmInMemory, "charts", lambda _: charts)
    record = {"metadata": {"name": "sh.helm.release.v1.empty.v1"}}
    helm.cluster.objects["secrets", record["metadata"]["name"]] = record
    submitted(helm)
    held = replace(read_runs(helm.cluster)[0], release="held")
    assert remove_empty(helm.cluster, helm, [held]) == ["empty"]
    assert helm.cluster.list_all(SECRETS) == []


def test_ctrl_c_lets_helm_end(tmp_path: Path) -> None:
    """Else its release stays half made, and nobody knows whose it is."""
    program = tmp_path / "helm"
    program.write_text(
        '#!/bin/sh\n[ "$1" = version ] && { echo v4.0.0; exit; }\n'
        f"cat > /dev/null; touch {tmp_path}/begun; sleep 1; touch {tmp_path}/ended\n"
    )
    program.chmod(0o755)
    code = "from lima_k8s.cluster.submit.helm import Helm; Helm('n').uninstall('r')"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
    ) as process:
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.communicate()
    assert process.returncode
    assert (tmp_path / "ended").exists()


def test_helm_4_creates_and_helm_3_does_not_know_the_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, words in (("v4.1.0", True), ("v3.18.2", False)):
        folder = tmp_path / version
        folder.mkdir()
        program = folder / "helm"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = version ] && {{ echo {version}; exit; }}\n'
            f'cat > /dev/null; echo "$@" > {folder}/said\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        Helm("n").install("r", tmp_path, {})
        assert ("--server-side=false" in (folder / "said").read_text()) is words


def test_helms_words_for_what_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "helm"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for words, error in (
        ("INSTALLATION FAILED: release: already exists", InUseError),
        ("INSTALLATION FAILED: cannot reuse a name that is still in use", InUseError),
        ("INSTALLATION FAILED: cannot re-use a name that is still in use", InUseError),
        ('INSTALLATION FAILED: configmaps \\"a-s0-1\\" already exists', TakenError),
        ('INSTALLATION FAILED: rayjobs.ray.io \\"a-s0-1\\" already exists', TakenError),
    ):
        program.write_text(
            '#!/bin/sh\n[ "$1" = version ] && { echo v4.0.0; exit; }\n'
            f'cat > /dev/null; echo "Error: {words}" >&2; exit 1\n'
        )
        program.chmod(0o755)
        with pytest.raises(TakenError) as raised:
            Helm("n").install("r", tmp_path, {})
        assert type(raised.value) is error, words


def test_only_what_an_install_made_is_taken_back(helm: HelmInMemory) -> None:
    submitted(helm)
    runs = read_runs(helm.cluster)
    removal.take_back(helm.cluster, runs[0].release, besides={run.uid for run in runs})
    assert not any(run.deleting for run in read_runs(helm.cluster))
    assert len(helm.cluster.list_all(CONFIGMAPS)) == 2
