"""The simulator: the robot, the scenes and their environment factors."""
