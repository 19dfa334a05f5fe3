"""The tasks' experts as a policy: proof that every episode can be solved, and no contestant."""
