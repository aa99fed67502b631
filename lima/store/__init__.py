"""The storage of a study: objects, immutable shards, the schemas of its tables, reading them."""
