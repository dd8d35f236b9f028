"""The web page: lists of runs, the page of a run, new runs. Made by the server; scripts only add to what it makes.

Touches: nothing itself.
"""
