"""Data in the formats of others: LeRobot datasets out of what was collected or recorded, and in for training."""
