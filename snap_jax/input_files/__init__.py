"""Files that a user hands in, read as JSON or TOML and checked by pydantic; only imported where a file is read."""
