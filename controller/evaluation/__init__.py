"""How good a transcript is: it is compared with a reference, word by word."""
