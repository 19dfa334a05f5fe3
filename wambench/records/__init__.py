"""What a run leaves on disk: its rows, its episodes, and where they came from."""

from wambench.records.run_folder import (
    COLUMNS,
    FIRST,
    FORMAT,
    HEADER,
    HEADERS,
    NAMES,
    PACKED,
    ROWS,
    RUN,
    Column,
    Key,
    Row,
    RunFolder,
    append,
    encode_episode,
    episode_stem,
    from_line,
    load,
    load_episode,
    locked,
    read_rows,
    to_line,
    write_whole,
)  # fmt: skip

__all__ = [
    "COLUMNS", "FIRST", "FORMAT", "HEADER", "HEADERS", "NAMES", "PACKED", "ROWS", "RUN", "Column", "Key", "Row",
    "RunFolder", "append", "encode_episode", "episode_stem", "from_line", "load", "load_episode", "locked",
    "read_rows", "to_line", "write_whole",
]  # fmt: skip
