"""Following runs on a cluster: where they are, their logs, why they wait."""
