"""What paths and files of examples are called."""

from lima.common.paths import base_name, file_name, is_hidden

EXAMPLES = (".jsonl", ".ndjson", ".json", ".parquet")
"""Of files of examples in a folder: fingerprints of folders stand on them too."""
NOT_EXAMPLES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What `datasets` writes beside them."""
HUB = "hub:"
"""Start of the path of a data set of a hub."""


def is_example_file(name: str) -> bool:
    """Say whether a file in a folder holds examples, by its name below the folder."""
    is_other = is_hidden(name) or file_name(name) in NOT_EXAMPLES
    return not is_other and base_name(name).lower().endswith(EXAMPLES)
