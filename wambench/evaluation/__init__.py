"""Playing a split with a policy: rollouts, clocks, executors, worker processes."""
