"""A Kubernetes of one node, for tests and for trying things; root and Linux only.

    layout     where a cluster keeps its files, what its parts are called
    programs   the programs it needs, and running them
    cgroups    the cgroup that holds all of a cluster's processes
    sandbox    a network and a mount namespace with daemons in them
    images     builds container images, and keeps them between clusters
    daemons    command lines and configuration of the parts of Kubernetes
    addons     Kueue, KubeRay, fake GPUs, fake nodes
    cluster    brings all of it up and down

Every file, namespace, mount and cgroup bears the cluster's name, so clusters live side by side, and
whatever bears a name can be removed without knowing how its cluster ended.
"""
