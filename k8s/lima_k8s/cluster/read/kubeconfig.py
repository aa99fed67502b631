"""What the files of KUBECONFIG say, as kubectl and Helm read them."""

import os
from pathlib import Path
from typing import Any

from lima_k8s.cluster.read import failures


def not_empty(files: str) -> str:
    """Return the paths of KUBECONFIG without those of empty files, which kubectl passes over."""
    paths = files.split(os.pathsep)
    kept = [p for p in paths if not (Path(p).is_file() and Path(p).stat().st_size == 0)]
    return os.pathsep.join(kept) or files


def contexts(config: Any, files: str) -> tuple[list[dict[str, Any]], str]:
    """Return the contexts of kubeconfigs and the name of the current one, empty if none is.

    The library's own list of contexts fails where none is current, and of several files it takes
    the last one's; kubectl and Helm take the first one's.
    """
    import yaml

    try:
        merged = config.kube_config.KubeConfigMerger(files)
    except config.ConfigException:  # all are empty
        return [], ""
    except (OSError, TypeError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise failures.unreadable_kubeconfig(files, error) from error
    documents = merged.config_files.values()
    current = next(filter(None, (d.get("current-context") for d in documents)), "")
    return [c.value for c in merged.config.value["contexts"]] if documents else [], current
