"""What every policy sees through: the frozen image encoder and the word embedding."""
