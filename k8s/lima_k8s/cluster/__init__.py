"""The cluster half of the command: what runs there, why not, and what to do about it.

    api -> parse -> model -> causes, explain, view -> commands

Only `api` talks to the API server and only `helm` starts Helm; everything after `parse` is a
pure function of the dataclasses in `model`.
"""
