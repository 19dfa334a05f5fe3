"""Is the benchmark itself sound: success of the experts, galleries, render profiles, a check of the machine."""
