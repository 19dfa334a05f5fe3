"""From recorded rows to tables and figures; neither torch nor mujoco is needed here."""
