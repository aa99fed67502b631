"""The `lima-k8s` command."""
