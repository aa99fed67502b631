"""Studies by name or file: the recipes, what changes them, and how a study is read."""
