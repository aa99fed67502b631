"""Finds what ships beside the code: charts and cluster profiles, in a clone and in a wheel."""

from pathlib import Path
from typing import Any

from lima.errors import InputError
from lima.spec.hints import closest
from lima_k8s.profile.kinds import CHARTS

PACKAGE = Path(__file__).parents[1]


def chart(name: str) -> Path:
    """Return the folder of a chart, as `helm install` takes it.

    Raises:
        InputError: there is no chart of this name.

    """
    folder = _root("charts") / name
    if not (folder / "Chart.yaml").is_file():
        raise InputError(f"no chart {name!r}; {closest(name, CHARTS.values(), 'charts')}")
    return folder


def profiles() -> tuple[str, ...]:
    """Return the names of the cluster profiles, sorted."""
    return tuple(sorted(file.stem for file in _root("clusters").glob("*.yaml")))


def profile(name: str) -> Path:
    """Return the file of a cluster profile: one that ships, or a file of the user's own.

    Raises:
        InputError: there is neither.

    """
    shipped = _root("clusters") / f"{name}.yaml"
    if name in profiles():
        return shipped
    if Path(name).is_file():
        return Path(name)
    hint = closest(name, profiles(), "profiles")
    raise InputError(f"{name}: neither a cluster profile nor a file; {hint}")


def read_profile(name: str) -> dict[str, Any]:
    """Return the content of `cluster:` in a profile.

    Raises:
        InputError: there is no such profile, or it is not a `cluster:` document.

    """
    import yaml

    from lima.common.encoding import not_utf8
    from lima.spec.yamltext import load_yaml

    file = profile(name)
    try:
        data = file.read_bytes()
        if problem := not_utf8(data):
            raise InputError(f"{file}: {problem}")
        document = load_yaml(data.decode())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: cannot be read as YAML ({error})") from None
    cluster = document.get("cluster") if isinstance(document, dict) else None
    if not isinstance(cluster, dict):
        raise InputError(f"{file}: not a cluster profile; expected a mapping `cluster:`")
    return cluster


def _root(kind: str) -> Path:
    """Return the folder of charts or clusters: beside the package in a wheel, else the clone's."""
    shipped = PACKAGE / kind
    if shipped.is_dir():
        return shipped
    return PACKAGE.parents[1] / "charts" if kind == "charts" else PACKAGE.parent / kind
