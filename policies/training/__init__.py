"""Training of every policy: data, configurations, the loop, and one trainer a family."""
