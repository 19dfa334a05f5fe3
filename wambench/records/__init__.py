"""What a run leaves on disk: its rows, its episodes, and where they came from."""

from wambench.records.episode_file import encode_episode, load_episode
from wambench.records.figures import save_figure
from wambench.records.files import append, locked, write_whole
from wambench.records.loading import find_runs, load
from wambench.records.rows import (
    COLUMNS,
    EARLIER,
    HEADER,
    NAMES,
    ROWS,
    RUN,
    Column,
    Key,
    Row,
    episode_stem,
    from_line,
    read_rows,
    to_line,
)  # fmt: skip
from wambench.records.run_folder import RunFolder

__all__ = [
    "COLUMNS", "EARLIER", "HEADER", "NAMES", "ROWS", "RUN", "Column", "Key", "Row", "RunFolder", "append",
    "encode_episode", "episode_stem", "find_runs", "from_line", "load", "load_episode", "locked", "read_rows",
    "save_figure", "to_line", "write_whole",
]  # fmt: skip
