"""`python -m lima_k8s` is `lima-k8s`."""

from lima_k8s.main import main

main()
