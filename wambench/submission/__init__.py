"""`wambench submit`: what a row of the leaderboard must fulfil, and the file that carries it."""
