"""What simulation and policies cost in time: `wambench bench`."""
